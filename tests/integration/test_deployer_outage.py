"""The deployer survives its own death at any moment, an outage of Redis, and an outage of build."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis

from services.deployer.config import Settings
from services.deployer.drivers.process.end import stop_instances
from shared.store import connect
from tests.support.deployer.deployer_stack import Deployer, Outside, Server, serving, settings_for, visit
from tests.support.ports import free_port, wait_for_port

pytestmark = pytest.mark.anyio


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    own = Server(tmp_path)
    yield own
    own.kill()


@pytest.fixture
async def outside(server: Server, tmp_path: Path) -> AsyncIterator[Outside]:
    redis: Redis = connect(server.url)
    stand_in = Outside(redis, tmp_path / "artifacts")
    async with serving(stand_in):
        yield stand_in
    await redis.aclose()


@pytest.fixture
async def settings(server: Server, outside: Outside, tmp_path: Path) -> AsyncIterator[Settings]:
    made = settings_for(tmp_path / "home", server.url, outside)
    yield made
    await asyncio.to_thread(stop_instances, made.home, 0.5)


@pytest.mark.slow
async def test_with_redis_gone_instances_run_on_and_nothing_is_judged(
    settings: Settings, outside: Outside, server: Server
) -> None:
    async with Deployer(settings) as deployer:
        await deployer.deployed(outside.build(1))
        [before] = await deployer.instances("ready")
        await deployer.release(outside.build(2))
        server.kill()
        unavailable = await deployer.client.get("/releases/notes-r1")
        assert unavailable.status_code == 503
        await asyncio.sleep(2)
        assert "notes-r1" in await visit(before)
        server.start()
        live = await deployer.until("notes-r2", "live", "failed", within_s=15)
        assert live["state"] == "live" and live["instances_made"] == 1
        assert [each["id"] for each in await deployer.instances("ready")] == ["notes-r2-1"]


async def test_a_crash_while_redis_is_gone_is_seen_afterwards(
    settings: Settings, outside: Outside, server: Server
) -> None:
    async with Deployer(settings) as deployer:
        await deployer.deployed(outside.build(1))
        [before] = await deployer.instances("ready")
        server.kill()
        with pytest.raises(httpx.TransportError):
            await visit(before, "/crash")
        await asyncio.sleep(0.5)
        server.start()
        async with asyncio.timeout(15):
            while [each["id"] for each in await deployer.instances("ready")] != ["notes-r1-2"]:
                await asyncio.sleep(0.1)


async def test_without_build_an_order_is_answered_with_503(settings: Settings, outside: Outside) -> None:
    settings.build_port = free_port()
    async with Deployer(settings) as deployer:
        refused = await deployer.release("notes-1", status=503)
        assert "build does not answer" in refused["detail"]


@pytest.mark.slow
async def test_killed_again_and_again_the_service_brings_the_release_to_its_end(
    settings: Settings, outside: Outside
) -> None:
    """The real service as a process of its own, with kill -9, each life a little longer than the last."""
    headers = {"Authorization": "Bearer secret-token"}
    port = free_port()
    environment = {
        **os.environ,
        "SLIPWAY_HOME": str(settings.home),
        "SLIPWAY_TOKEN": "secret-token",
        "SLIPWAY_REDIS_URL": settings.redis_url,
        "SLIPWAY_DEPLOYER_PORT": str(port),
        "SLIPWAY_BUILD_PORT": str(outside.port),
        "SLIPWAY_PROXY_PORT": str(outside.port),
    }
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "services.deployer"]

    async def life() -> subprocess.Popen[bytes]:
        service = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
        await asyncio.to_thread(wait_for_port, port)
        return service

    async with httpx.AsyncClient(verify=False, base_url=url, headers=headers) as client:
        for build, lived_s in enumerate((0.02, 0.3, 0.5), start=1):
            service = await life()
            path = "/apps/notes/environments/production/releases"
            ordered = await client.post(path, json={"build": outside.build(build)})
            assert ordered.status_code == 202, ordered.text
            await asyncio.sleep(lived_s)
            service.send_signal(signal.SIGKILL)
            service.wait()
        service = await life()
        try:
            async with asyncio.timeout(15):
                while (release := (await client.get("/releases/notes-r3")).json())["state"] != "live":
                    await asyncio.sleep(0.1)
                there: Any = {}
                while [each["state"] for each in there.get("instances", [])] != ["ready"]:
                    there = (await client.get("/apps/notes/environments/production")).json()
                    await asyncio.sleep(0.1)
        finally:
            service.terminate()
            service.wait(10)
    assert release["instances_made"] == 1
    assert there["instances"][0]["release"] == "notes-r3"
    assert "notes-r3" in await visit(there["instances"][0])
