"""An app that people removed leaves nothing behind in the build service, wherever the service dies meanwhile."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from redis.asyncio import Redis

from services.build.builds import build as domain
from services.build.builds.app import new_app
from services.build.builds.build_store import BuildStore
from services.build.executors.executor import Executor, ExecutorObjects
from services.build.forges.delivery_store import DeliveryStore
from services.build.gates.report_archive import ReportFiles
from services.build.git.repository import Repositories
from services.build.logs.build_log import BuildLogs
from services.build.retention.app_removal import AppRemovals
from shared.errors import NotFound, Unavailable
from shared.http import ServiceClient
from shared.models import BuildState
from tests.support.build.builds import AT, build, events_in

pytestmark = pytest.mark.anyio


class Died(Exception):
    """The service is no more."""


class Fused:
    """A collaborator whose calls burn the fuse: the last one reaches it, but its answer gets lost."""

    def __init__(self, inner: object, burn: Callable[[], None]) -> None:
        self._inner = inner
        self._burn = burn

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._inner, name)
        if name in ("every", "in_thread", "delete", "path"):
            return attribute

        async def call(*args: Any, **kwargs: Any) -> Any:
            answer = await attribute(*args, **kwargs)
            self._burn()
            return answer

        return call


class World:
    """`notes` has a repository, an artifact, a log, a build that ended and one that waits. `answers` are those of the
    deployer, the last one again and again.
    """

    def __init__(self, home: Path, redis: Redis) -> None:
        self.home = home
        self.redis = redis
        self.store = BuildStore(redis)
        self.repositories = Repositories(home / "repositories", "/usr/bin:/bin")
        self.logs = BuildLogs(home / "logs")
        self.removed_caches: list[frozenset[str]] = []
        self.asked: list[Any] = []
        self.answers: list[Any] = [{"state": "removed", "waits_for": {}}]
        self.left = float("inf")

    async def fill(self) -> None:
        await self.store.add_app(new_app("notes", AT))
        await self.store.add_app(new_app("notes-two", AT))
        for number in (1, 2):
            await self.store.next_number("notes")
            await self.store.add(build(number), is_head=True)
            self.logs.say(f"notes-{number}", "hello")
        await self.store.update("notes-1", lambda stored: domain.ended(stored, BuildState.ERROR, "so", AT))
        await self.redis.set("build:delivered:notes:1234", "d")
        self.repositories.ensure("notes")
        artifact = self.home / "releases" / "notes" / "notes-1"
        artifact.mkdir(parents=True)

    async def call(self, method: str, path: str, **rest: Any) -> Any:
        self.asked.append((method, path, rest["params"]))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def remove(self, objects: ExecutorObjects) -> None:
        self.removed_caches.append(objects.apps)

    def burn(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Died

    def removals(self) -> AppRemovals:
        return AppRemovals(
            cast(BuildStore, Fused(self.store, self.burn)),
            cast(Repositories, Fused(self.repositories, self.burn)),
            self.logs,
            ReportFiles(self.home / "reports"),
            self.home / "releases",
            cast(Executor, Fused(self, self.burn)),
            cast(ServiceClient, Fused(self, self.burn)),
            DeliveryStore(self.redis).forget,
            lambda: AT,
            undisturbed=lambda app: contextlib.nullcontext(),
            wake=lambda: None,
        )

    async def stop_builds(self) -> None:
        """Ends the builds that are to be stopped, as the scheduler does."""
        for each in await self.store.unended():
            if each.stop is not None:
                await self.store.update(each.id, lambda b: domain.ended(b, BuildState.CANCELLED, "stopped", AT))

    async def traces(self) -> list[str]:
        keys = [str(key) for key in await self.redis.keys("build:*notes*") if "two" not in str(key)]
        members = [*await self.store.ids(), *(build.id for build in await self.store.unended())]
        return keys + members + [str(path) for path in self.home.rglob("notes*")]


@pytest.fixture
async def world(tmp_path: Path, redis: Redis) -> World:
    made = World(tmp_path, redis)
    await made.fill()
    return made


async def test_builds_are_cancelled_and_the_deployer_goes_first(world: World) -> None:
    waits = {"state": "removing", "waits_for": {"production": "waits for the end of notes-r1-1"}}
    world.answers = [Unavailable("deployer does not answer"), waits, {"state": "removed", "waits_for": {}}]
    removals = world.removals()
    await removals.begin(await world.store.app("notes"), ["data"])
    said = []
    for _ in range(3):
        assert await removals.step() is not None
        removing = (await world.store.app("notes")).removing
        assert removing is not None
        said.append(removing.waits_for)
    assert said == [
        "waits for the deployer: deployer does not answer",
        "production: waits for the end of notes-r1-1",
        "waits for the end of notes-2",
    ]
    assert world.asked == [("DELETE", "/apps/notes", {"volume": ["data"]})] * 3
    assert world.repositories.exists("notes")
    await world.stop_builds()
    await removals.step()
    assert await world.traces() == [] and world.removed_caches == [frozenset({"notes"})]
    assert (await events_in(world.redis))[-1].type == "app.removed"
    assert await removals.step() is None
    assert [app.name for app in await world.store.apps()] == ["notes-two"]


async def test_the_service_may_die_after_any_call(tmp_path: Path, redis: Redis) -> None:
    calls = 0
    while True:
        await redis.flushdb()
        world = World(tmp_path / str(calls), redis)
        await world.fill()
        await world.removals().begin(await world.store.app("notes"), None)
        world.left = calls
        died = False
        for _ in range(10):
            try:
                await world.removals().step()
                await world.stop_builds()
            except Died:
                died, world.left = True, float("inf")
            if await world.traces() == []:
                break
        assert await world.traces() == [], f"died after {calls} calls"
        with pytest.raises(NotFound):
            await world.store.app("notes")
        if not died:
            break
        calls += 1
    assert calls >= 10
