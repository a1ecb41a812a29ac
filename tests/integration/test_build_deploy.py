"""Tests what a push prints of its deploy, and how a deploy ends: live, cancelled, superseded, or by a fault of the
platform. The deployer is a small server that says what a test tells it to.
"""

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis

from services.build.builds.build import Build, StopRequest
from services.build.pipeline.deployer_client import DeployerClient
from services.build.queue.workers import with_stop
from services.build.system.stop import Stop
from shared.clock import now
from shared.config import SharedSettings
from shared.http import ServiceClient
from shared.models import BuildState, Environment
from shared.registry import Registry
from tests.support.build.platform import Platform, processes

pytestmark = pytest.mark.anyio
MANIFEST = "app: notes\nrun: {command: run}\n"
TOO_LATE = "notes-r1 serves production; release another build, or roll back"


class ADeployer(httpx.AsyncBaseTransport):
    """Has one release, `notes-r1` of the build that asks for it. `states` are what it answers, one after the other, the
    last again and again; `retired`: reasons with which it was asked to retire it.
    """

    def __init__(self, *states: dict[str, Any]) -> None:
        self.states = list(states)
        self.retired: list[str] = []
        self.refuses_to_retire = False
        self.looked = asyncio.Event()
        self._build = ""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await request.aread()
        path = request.url.path
        if path.endswith("/retire"):
            if self.refuses_to_retire:
                return httpx.Response(409, json={"detail": TOO_LATE})
            self.retired.append(request.read().decode())
            self.states = [{"state": "retired", "reason": "cancelled by hand", "ended_at": now().isoformat()}]
        elif path.endswith("/releases") and request.method == "POST":
            self._build = request.read().decode().partition('"build":')[2].strip('"} ')
        elif path.endswith("/releases"):
            return httpx.Response(200, json={"items": [self._release()] if self._build else [], "next": None})
        self.looked.set()
        return httpx.Response(200, json=self._release())

    def _release(self) -> dict[str, Any]:
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        return {
            "id": "notes-r1", "app": "notes", "environment": "production", "build": self._build, "commit": "a" * 40,
            "created_at": now().isoformat(), **state,
        }  # fmt: skip


def starting(reason: str, **changes: Any) -> dict[str, Any]:
    return {"state": "starting", "reason": reason, "wait": {"waited_s": 4, "limit_s": 60}, **changes}


@pytest.fixture
async def platform(tmp_path: Path, redis: Redis) -> AsyncIterator[Platform]:
    yield await processes(tmp_path, redis)


def told(platform: Platform, deployer: ADeployer, redis: Redis) -> None:
    http = httpx.AsyncClient(transport=deployer)
    client = ServiceClient("deployer", SharedSettings(token="secret"), Registry(redis), http)
    platform.context = dataclasses.replace(platform.context, deployer=DeployerClient(client, poll_s=0.01))


async def passed(platform: Platform, number: int = 1, **changes: Any) -> Build:
    """A build that was left when it had passed, before its deploy."""
    queued = await platform.queue({"slipway.yml": MANIFEST})
    update = {"state": BuildState.RUNNING, "passed": True, "environment": Environment.PRODUCTION, **changes}
    return await platform.store.update(queued.id, lambda stored: stored.model_copy(update=update))


async def test_each_change_of_what_it_waits_for_is_printed_once(platform: Platform, redis: Redis) -> None:
    ill, well = starting("waits for notes-r1-1: answered 503"), starting("waits for the proxy: nothing yet")
    told(platform, ADeployer(starting("begins"), ill, ill, ill, well, {"state": "live", "live_at": None}), redis)
    build = await platform.run(await passed(platform))
    assert build.state is BuildState.SUCCESS
    lines = [line.split("s  ", 1)[1] for line in platform.log(build).splitlines() if "notes-r1 starting" in line]
    assert lines == [
        "notes-r1 starting: begins",
        "notes-r1 starting: waits for notes-r1-1: answered 503",
        "notes-r1 starting: waits for the proxy: nothing yet",
    ]


async def test_a_release_that_a_newer_one_replaced_makes_its_build_superseded(platform: Platform, redis: Redis) -> None:
    reason = "superseded by notes-r2 before any of its instances was routable"
    gone = {"state": "retired", "reason": reason, "superseded_by": "notes-r2", "ended_at": now().isoformat()}
    told(platform, ADeployer(starting("begins"), gone), redis)
    build = await platform.run(await passed(platform))
    assert (build.state, build.reason) == (BuildState.SUPERSEDED, f"{reason} (it was release notes-r1)")


async def test_a_fault_of_the_platform_is_an_error_and_says_the_remedy(platform: Platform, redis: Redis) -> None:
    failed = {"state": "failed", "reason": "a part was away", "platform_fault": True, "ended_at": now().isoformat()}
    told(platform, ADeployer(starting("begins"), failed), redis)
    build = await platform.run(await passed(platform))
    assert build.state is BuildState.ERROR
    assert build.reason.endswith(f"once `GET /ready` of all services answers 200, POST /builds/{build.id}/retry")


async def test_a_release_that_serves_but_cannot_be_completed_is_not_waited_for(
    platform: Platform, redis: Redis
) -> None:
    away = {"waited_s": 4, "limit_s": 60, "away_s": 600, "is_held": True}
    told(
        platform,
        ADeployer(
            starting("the proxy is away", switched_at=now().isoformat(), wait=away),
        ),
        redis,
    )
    build = await platform.run(await passed(platform))
    assert build.state is BuildState.ERROR and "goes on by itself" in build.reason


async def cancelled(platform: Platform, deployer: ADeployer, build: Build) -> Build:
    """The build after it was cancelled during its deploy."""
    stop, request = Stop(), StopRequest(state=BuildState.CANCELLED, reason="cancelled by hand")
    running = asyncio.create_task(platform.run(build, stop))
    await deployer.looked.wait()
    await platform.store.update(build.id, lambda stored: with_stop(stored, request))
    stop.set()
    return await running


async def test_a_deploy_is_cancelled_with_its_release(platform: Platform, redis: Redis) -> None:
    deployer = ADeployer(starting("begins"))
    told(platform, deployer, redis)
    build = await cancelled(platform, deployer, await passed(platform))
    assert (build.state, build.reason) == (BuildState.CANCELLED, "cancelled by hand")
    assert deployer.retired == ['{"state":"retired","reason":"cancelled by hand"}']


async def test_a_cancel_that_the_service_did_not_live_to_carry_out_is_carried_out(
    platform: Platform, redis: Redis
) -> None:
    """Also if the service was killed before it stored the id of the release."""
    deployer = ADeployer(starting("begins"))
    told(platform, deployer, redis)
    build = await passed(platform, stop=StopRequest(state=BuildState.CANCELLED, reason="cancelled by hand"))
    deployer._build = build.id
    assert (await platform.run(build)).state is BuildState.CANCELLED
    assert len(deployer.retired) == 1


async def test_a_cancel_that_comes_too_late_changes_nothing(platform: Platform, redis: Redis) -> None:
    deployer = ADeployer(*[starting("its instances are in the route", switched_at=now().isoformat())] * 9)
    deployer.states.append({"state": "live"})
    deployer.refuses_to_retire = True
    told(platform, deployer, redis)
    build = await cancelled(platform, deployer, await passed(platform))
    assert (build.state, build.stop) == (BuildState.SUCCESS, None)
    assert "too late to cancel: notes-r1 serves visitors already" in platform.log(build)


async def test_a_newer_build_is_released_after_the_older_one_was_requested(platform: Platform, redis: Redis) -> None:
    deployer = ADeployer({"state": "live"})
    told(platform, deployer, redis)
    older = await passed(platform)
    newer = await passed(platform, 2)
    running = asyncio.create_task(platform.run(newer))
    while b"waits until notes-1, which is older, has requested its release" not in platform.context.logs.read(
        newer.id, 0
    ):
        await asyncio.sleep(0.01)
    assert not deployer.looked.is_set()
    await platform.store.update(older.id, lambda stored: stored.model_copy(update={"release": "notes-r0"}))
    assert (await running).state is BuildState.SUCCESS
