"""Tests when environments are reconciled, and that none waits for another."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import cast

import pytest

from services.deployer.drivers.driver import NoAnswer
from services.deployer.reconcile import reconciler as tested
from services.deployer.reconcile.environment_reconciler import EnvironmentReconciler
from services.deployer.reconcile.reconciler import Reconciler
from services.deployer.releases.environment import EnvironmentId
from services.deployer.store import Store
from shared.models import Environment
from shared.runtime.loops import running
from shared.store import RedisError

pytestmark = pytest.mark.anyio
ENVIRONMENTS = [EnvironmentId("notes", each) for each in Environment]


async def nothing() -> None: ...


class FakeReconciler:
    """Steps when it is woken, and never by itself."""

    def __init__(self, environment_id: EnvironmentId, on_step: Callable[[], Awaitable[None]] = nothing) -> None:
        self.environment_id = environment_id
        self.due_at = float("inf")
        self.instance_ids = [f"{environment_id}-1"]
        self.on_step = on_step
        self.steps = 0
        self.at_once = self.most_at_once = 0
        self.closed = False

    async def step(self) -> None:
        self.steps += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await self.on_step()
        finally:
            self.at_once -= 1

    async def close(self) -> None:
        assert self.at_once == 0, "its round has ended before"
        self.closed = True


class World:
    """Two environments of one app, whose rounds begin as soon as they are woken."""

    def __init__(self, store: Store) -> None:
        self.reconcilers = [FakeReconciler(environment_id) for environment_id in ENVIRONMENTS]
        by_environment = {
            reconciler.environment_id: cast(EnvironmentReconciler, reconciler) for reconciler in self.reconcilers
        }
        self.reconciler = Reconciler(store, by_environment.__getitem__)
        for environment_id in ENVIRONMENTS:
            self.reconciler.wake(environment_id)

    @contextlib.asynccontextmanager
    async def alive(self) -> AsyncIterator[None]:
        async with running([self.reconciler.loop]):
            yield
        await self.reconciler.close()

    async def until(self, *steps: int) -> None:
        """The environments have begun so many rounds."""
        async with asyncio.timeout(10):
            while tuple(reconciler.steps for reconciler in self.reconcilers) != steps:
                await asyncio.sleep(0.01)


async def test_after_the_end_of_an_instance_its_environment_is_due_at_once_and_no_other(store: Store) -> None:
    world = World(store)
    async with world.alive():
        for steps in (1, 2, 3):
            await world.until(1, steps)
            world.reconciler.instance_ended(world.reconcilers[1].instance_ids[0])


async def test_when_any_instance_may_have_ended_every_environment_is_due_at_once(store: Store) -> None:
    world = World(store)
    async with world.alive():
        for steps in (1, 2):
            await world.until(steps, steps)
            world.reconciler.instance_ended(None)


async def test_so_many_environments_are_reconciled_at_once_and_the_longest_waiting_first(store: Store) -> None:
    go_on, begun = asyncio.Event(), list[str]()
    ids = [EnvironmentId(f"app-{number}", Environment.PRODUCTION) for number in range(100)]
    many = {each: FakeReconciler(each) for each in ids}
    for number, reconciler in enumerate(reversed(many.values())):
        reconciler.due_at = float(number)

        async def on_step(app: str = reconciler.environment_id.app) -> None:
            begun.append(app)
            await go_on.wait()

        reconciler.on_step = on_step
    tested_here = Reconciler(store, lambda each: cast(EnvironmentReconciler, many[each]))
    for environment_id in many:
        tested_here.wake(environment_id)
    async with running([tested_here.loop]):
        async with asyncio.timeout(5):
            while len(begun) < tested.ROUNDS_AT_ONCE:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.05)
            assert begun == [f"app-{99 - number}" for number in range(tested.ROUNDS_AT_ONCE)]
            go_on.set()
            while len(begun) < 100:
                await asyncio.sleep(0.01)
    await tested_here.close()


async def test_the_loop_waits_until_the_next_environment_is_due(store: Store) -> None:
    world = World(store)
    world.reconcilers[0].due_at = time.monotonic() + 0.5
    world.reconcilers[1].due_at = float("inf")
    assert 0 < await world.reconciler.step() <= 0.5
    world.reconcilers[0].due_at = float("inf")
    assert await world.reconciler.step() == float("inf")
    assert [reconciler.steps for reconciler in world.reconcilers] == [0, 0]


async def test_an_idle_environment_is_left_alone(store: Store) -> None:
    world = World(store)
    world.reconcilers[1].due_at = float("inf")
    for _ in range(3):
        await world.reconciler.step()
        await asyncio.sleep(0.01)
    assert [reconciler.steps for reconciler in world.reconcilers] == [1, 0]


async def test_a_slow_environment_delays_no_other(store: Store) -> None:
    world, go_on = World(store), asyncio.Event()
    slow, quick = world.reconcilers

    async def on_step() -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(go_on.wait(), 5)

    slow.on_step = on_step
    async with world.alive():
        for steps in (1, 2, 3):
            await world.until(1, steps)
            world.reconciler.wake(quick.environment_id)


async def test_an_environment_that_is_woken_during_its_round_has_one_more_after_it(store: Store) -> None:
    world, go_on = World(store), asyncio.Event()
    slow, _ = world.reconcilers
    slow.on_step = cast(Callable[[], Awaitable[None]], go_on.wait)
    async with world.alive():
        await world.until(1, 1)
        for _ in range(3):
            world.reconciler.wake(slow.environment_id)
            await asyncio.sleep(0.01)
        assert slow.steps == 1
        go_on.set()
        await world.until(2, 1)
        await asyncio.sleep(0.2)
        assert (slow.steps, slow.most_at_once) == (2, 1)


@pytest.mark.parametrize(
    "error", [RuntimeError("no"), RedisError("no"), NoAnswer("no")], ids=["bug", "redis", "engine"]
)
async def test_a_failing_environment_is_logged_once_told_and_tried_again(
    store: Store, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    world = World(store)
    failing, other = world.reconcilers
    why = f"{failing.environment_id}: {type(error).__name__}: no"

    async def fail() -> None:
        raise error

    failing.on_step = fail
    async with world.alive():
        await world.until(1, 1)
        world.reconciler.wake(other.environment_id)
        await world.until(1, 2)
        assert await world.reconciler.check() == why
        world.reconciler.wake(failing.environment_id)
        await world.until(2, 2)
        assert [record.levelname for record in caplog.records] == ["ERROR"]
        assert str(failing.environment_id) in caplog.text
        failing.on_step = nothing
        world.reconciler.wake(failing.environment_id)
        await world.until(3, 2)
        assert await world.reconciler.check() is None


async def test_a_round_that_hangs_is_told_with_its_environment(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    world, go_on = World(store), asyncio.Event()
    hanging, _ = world.reconcilers
    hanging.on_step = cast(Callable[[], Awaitable[None]], go_on.wait)
    async with world.alive():
        await world.until(1, 1)
        assert await world.reconciler.check() is None
        monkeypatch.setattr(tested, "HANGS_S", 0)
        assert await world.reconciler.check() == f"{hanging.environment_id}: its reconciling still runs after 0 s"
        go_on.set()
        await asyncio.sleep(0.01)
        assert await world.reconciler.check() is None


async def test_at_the_end_rounds_are_cancelled_and_waited_for(store: Store) -> None:
    world = World(store)
    ended = []

    async def slow_to_end() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.02)
            ended.append(1)

    for reconciler in world.reconcilers:
        reconciler.on_step = slow_to_end
    async with world.alive():
        await world.until(1, 1)
    assert ended == [1, 1]
    assert all(reconciler.closed for reconciler in world.reconcilers)
