"""Releases of images, from order to live and out again, on real Redis and a real Docker Engine."""

import asyncio
import contextlib
import io
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from redis.asyncio import Redis

from services.deployer.config import Settings
from tests.integration.deployer_stack import Deployer, Outside, serving, settings_for, visit
from tests.unit.deployer.conftest import BASE

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container

pytestmark = [pytest.mark.anyio, pytest.mark.docker]
APP = """
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == '/crash':
            os._exit(3)
        body = os.environ['SLIPWAY_COMMIT'].encode()
        self.send_response(200)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)
http.server.ThreadingHTTPServer(('0.0.0.0', int(os.environ['PORT'])), Handler).serve_forever()
"""


@pytest.fixture(scope="module")
def image(engine: "DockerClient") -> Iterator[str]:
    """The id of an image whose own command serves."""
    tag, lines = f"slipway-test-{uuid.uuid4().hex[:8]}", APP.replace("\n", "\\n")
    recipe = f'FROM {BASE}\nRUN printf "{lines}" > /app.py\nCMD ["python3", "/app.py"]\n'
    built, _ = engine.images.build(fileobj=io.BytesIO(recipe.encode()), tag=tag, rm=True)
    yield str(built.id)
    engine.images.remove(tag, force=True)


@pytest.fixture
async def outside(redis: Redis, tmp_path: Path) -> AsyncIterator[Outside]:
    stand_in = Outside(redis, tmp_path / "artifacts")
    async with serving(stand_in):
        yield stand_in


@pytest.fixture
async def settings(
    outside: Outside, redis_server: str, tmp_path: Path, engine: "DockerClient"
) -> AsyncIterator[Settings]:
    network = f"slipway-test-{uuid.uuid4().hex[:8]}"
    made = settings_for(tmp_path / "home", redis_server, outside)
    yield made.model_copy(update={"driver": "docker", "network": network})
    volumes = set()
    for container in containers(engine, network):
        volumes |= {mount["Name"] for mount in container.attrs["Mounts"]}
        container.remove(force=True, v=True)
    for name in volumes:
        engine.volumes.get(name).remove()
    for each in engine.networks.list(names=[network]):
        each.remove()


@pytest.fixture
async def deployer(settings: Settings) -> AsyncIterator[Deployer]:
    async with Deployer(settings) as service:
        yield service


def containers(engine: "DockerClient", network: str) -> "list[Container]":
    return engine.containers.list(all=True, filters={"network": network})


def build(outside: Outside, image: str, number: int, **more: Any) -> str:
    manifest: dict[str, Any] = {"app": "notes", "run": {"port": 9090, "health": "/up"}, **more}
    artifact = {"kind": "image", "ref": f"notes:{number}", "digest": image}
    return outside.build(number, manifest=manifest, artifact=artifact)


async def test_a_release_of_an_image_goes_live_and_takes_the_place_of_the_last(
    deployer: Deployer, outside: Outside, image: str, engine: "DockerClient", settings: Settings
) -> None:
    await deployer.deployed(build(outside, image, 1))
    [old] = await deployer.instances("ready")
    assert old["address"].endswith(":9090") and await visit(old) == f"{1:040x}"
    await deployer.deployed(build(outside, image, 2))
    async with asyncio.timeout(15):
        while len(await deployer.instances()) > 1:
            await asyncio.sleep(0.05)
    [new] = await deployer.instances("ready")
    assert await visit(new) == f"{2:040x}"
    running = [each for each in containers(engine, settings.network) if each.status == "running"]
    assert [each.labels["io.slipway.release"] for each in running] == ["notes-r2"]


async def test_a_crash_is_seen_within_a_second(deployer: Deployer, outside: Outside, image: str) -> None:
    await deployer.deployed(build(outside, image, 1))
    await asyncio.sleep(2)  # the watch after going live
    [instance] = await deployer.instances("ready")
    with contextlib.suppress(httpx.HTTPError):
        await visit(instance, "/crash")
    crashed_at = time.monotonic()
    async with asyncio.timeout(5):
        while instance["id"] in [each["id"] for each in await deployer.instances("ready")]:
            await asyncio.sleep(0.01)
    assert time.monotonic() - crashed_at < 1
    async with asyncio.timeout(10):
        while not (ready := await deployer.instances("ready")):
            await asyncio.sleep(0.05)
    assert ready[0]["id"] == "notes-r1-2" and await visit(ready[0]) == f"{1:040x}"


async def test_a_volume_passes_from_release_to_release_one_instance_at_a_time(
    deployer: Deployer, outside: Outside, image: str, engine: "DockerClient", settings: Settings
) -> None:
    keeps = "echo $SLIPWAY_INSTANCE >> $SLIPWAY_VOLUME_DATA/log; cat $SLIPWAY_VOLUME_DATA/log"
    run = {"command": f"{keeps}; exec python3 /app.py", "port": 9090, "health": "/up"}
    volumes = [{"name": "data", "path": "/data"}]
    await deployer.deployed(build(outside, image, 1, run=run, volumes=volumes))
    await deployer.deployed(build(outside, image, 2, run=run, volumes=volumes))
    told = await deployer.call("GET", "/releases/notes-r2")
    assert told["strategy"] == "stop-first" and told["down_s"] > 0
    made = {each.labels["io.slipway.release"]: each for each in containers(engine, settings.network)}
    old, new = made["notes-r1"], made["notes-r2"]
    assert new.logs().decode().splitlines()[:2] == ["notes-r1-1", "notes-r2-1"]
    assert old.attrs["State"]["FinishedAt"] < new.attrs["State"]["StartedAt"]

    gone = build(outside, image, 3, run=run, volumes=volumes)
    outside.builds[gone]["artifact"]["digest"] = f"sha256:{'0' * 64}"
    await deployer.release(gone)
    failed = await deployer.until("notes-r3", "failed", "live")
    assert "the engine has no image notes:3 as it was built" in failed["reason"]
    assert [each["id"] for each in await deployer.instances("ready")] == ["notes-r2-1"]
