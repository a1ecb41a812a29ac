"""A rebuild is led to its end: build is asked, followed, and asked again if it did not help."""

import asyncio
from collections import defaultdict
from datetime import datetime
from typing import Any, cast

import pytest
from redis.asyncio import Redis

from services.deployer.drivers.driver import Driver
from services.deployer.plan.apply_changes import Commit
from services.deployer.rebuild.rebuilder import Rebuilder
from services.deployer.releases.environment import EnvironmentId
from services.deployer.releases.rebuild import Rebuild
from services.deployer.releases.release import Release
from services.deployer.store import Store
from shared.errors import NotFound, Unavailable
from shared.http import ServiceClient
from shared.models import Environment, ReleaseState
from tests.support.deployer.fakes import ENCRYPTION, T0, FakeDriver, a_release, after, stored_events
from tests.support.deployer.mortal import Fuse, Fused, Killed

pytestmark = pytest.mark.anyio
PRODUCTION = EnvironmentId("notes", Environment.PRODUCTION)
REBUILD = Rebuild(cause="it is gone", next_at=T0)


class Builds:
    """Build, which has the build `notes-23`, in `state`. `away`: it does not answer."""

    def __init__(self) -> None:
        self.state: str | None = "running"
        self.away = False
        self.asked: list[Any] = []

    async def post(self, path: str, body: Any, *, repeatable: bool) -> Any:
        self._answer()
        self.asked.append((path, body, repeatable))
        return self._build()

    async def get(self, path: str) -> Any:
        self._answer()
        if self.state is None:
            raise NotFound(f"there is no build {path}")
        return self._build()

    def _answer(self) -> None:
        if self.away:
            raise Unavailable("build does not answer: ConnectError")

    def _build(self) -> Any:
        return {"id": "notes-23", "app": "notes", "commit": "a" * 40, "state": self.state, "reason": "gate coverage"}


class Case:
    def __init__(self, redis: Redis) -> None:
        self.redis = redis
        self.store = Store(redis, ENCRYPTION)
        self.driver = FakeDriver()
        self.builds = Builds()
        self.now = T0
        locks: defaultdict[EnvironmentId, asyncio.Lock] = defaultdict(asyncio.Lock)
        self.rebuilder = Rebuilder(self.store, self.driver, cast(ServiceClient, self.builds), locks, self._now)

        self.parts = self.store, self.driver, self.builds

    def _now(self) -> datetime:
        return self.now

    async def given(self, release: Release) -> None:
        self.driver.gone.add(release.artifact.ref)
        await self.store.commit(PRODUCTION, Commit({release.id: release}))

    async def step(self, at_s: float = 0) -> Rebuild | None:
        """Returns the rebuild after one step."""
        self.now = after(at_s)
        await self.rebuilder.step("notes-r1")
        release = await self.store.release("notes-r1")
        assert release is not None
        return release.rebuild

    async def told(self) -> list[str]:
        return [event.type for event in await stored_events(self.redis)]


@pytest.fixture
async def case(redis: Redis) -> Case:
    case = Case(redis)
    await case.given(a_release(1, rebuild=REBUILD))
    return case


async def test_build_is_asked_once_and_followed(case: Case) -> None:
    for _ in range(3):
        assert await case.step() == REBUILD.model_copy(update={"build": "notes-23"})
    body = {"release": "notes-r1", "environment": "production", "commit": f"{1:040x}"}
    assert case.builds.asked == [("/apps/notes/rebuilds", body, True)]
    assert await case.told() == []


@pytest.mark.parametrize("state", ["failure", "error", "cancelled", "superseded", None])
async def test_a_build_that_did_not_help_is_told_and_tried_again_after_a_while(case: Case, state: str | None) -> None:
    await case.step()
    case.builds.state = state
    rebuild = await case.step(10)
    assert rebuild is not None and (rebuild.build, rebuild.tries, rebuild.next_at) == ("", 1, after(70))
    assert "there is no build" in rebuild.failure if state is None else f"ended in {state}: gate" in rebuild.failure
    assert await case.told() == ["artifact.lost"]
    case.builds.state = "queued"
    assert await case.step(69) == rebuild
    assert len(case.builds.asked) == 1
    again = await case.step(70)
    assert again is not None and (again.build, again.tries, len(case.builds.asked)) == ("notes-23", 1, 2)


async def test_while_build_is_away_nothing_is_decided(case: Case) -> None:
    case.builds.away = True
    waiting = await case.step()
    assert waiting is not None and waiting.problem.endswith("which waits: build does not answer: ConnectError")
    case.builds.away = False
    asked = await case.step(5)
    case.builds.away = True
    assert asked is not None and asked.build == "notes-23" and await case.step(10) == asked
    assert await case.told() == []


async def test_an_artifact_that_is_there_again_ends_it(case: Case) -> None:
    case.driver.gone.clear()
    assert await case.step() is None
    assert (await case.told(), case.builds.asked) == (["artifact.found"], [])


async def test_a_release_that_another_one_has_replaced_is_left_alone(case: Case) -> None:
    retired = a_release(1, ReleaseState.RETIRED, rebuild=REBUILD)
    await case.store.commit(PRODUCTION, Commit({retired.id: retired}))
    assert await case.step() == REBUILD
    assert case.builds.asked == []


async def test_the_deployer_may_die_after_any_call_it_makes(case: Case) -> None:
    """It asks again; build answers with the build that is under way."""
    for calls in range(20):
        await case.given(a_release(1, rebuild=REBUILD))
        fuse = Fuse(calls)
        store, driver, builds = (Fused(each, fuse) for each in case.parts)
        locks: defaultdict[EnvironmentId, asyncio.Lock] = defaultdict(asyncio.Lock)
        dying = Rebuilder(cast(Store, store), cast(Driver, driver), cast(ServiceClient, builds), locks, lambda: T0)
        try:
            await dying.step("notes-r1")
        except Killed:
            assert await case.step() == REBUILD.model_copy(update={"build": "notes-23"}), f"killed after {calls} calls"
        else:
            break
    assert calls > 3 and await case.told() == []
