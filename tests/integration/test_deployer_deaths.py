"""Plans carried out, on stand-ins for the outside, with the deployer dying at every single step."""

import pytest
from redis.asyncio import Redis

from shared.models import Environment, InstanceState, ReleaseState
from tests.support.deployer.fakes import with_volume
from tests.support.deployer.mortal import NEVER, Condition, Fuse, World, down_s, is_done, with_one_live

pytestmark = pytest.mark.anyio
FAILS = with_volume(run={"command": "exit 3"})


async def has_come_back(world: World) -> bool:
    """The second release failed, and only the first is in the registry, ready, and known to be served."""
    release = await world.store.release("notes-r2")
    has_failed = release is not None and release.state is ReleaseState.FAILED and release.down_s is not None
    return has_failed and await world.entries() == {"notes-r1-2": InstanceState.READY}


@pytest.mark.parametrize("environment", list(Environment))
async def test_the_deployer_may_die_after_any_call_it_makes(redis: Redis, environment: Environment) -> None:
    """Nothing is stopped before it is out of the route, nothing started twice, and it ends as if nothing had been."""
    world = World(redis, environment)
    await world.release(1)
    assert await world.live_until(is_done(1), Fuse(float("inf")))
    await world.release(2)
    restored, calls = await world.saved(), 0
    while True:
        world = await restored()
        unharmed = await world.live_until(is_done(2), Fuse(calls))
        assert unharmed or await world.live_until(is_done(2), Fuse(float("inf"))), f"not taken up after {calls} calls"
        assert world.driver.started == ["notes-r1-1", "notes-r2-1"], f"killed after {calls} calls"
        assert world.driver.stopped == ["notes-r1-1"], f"killed after {calls} calls"
        assert world.proxy.violations == [], f"killed after {calls} calls"
        assert await world.entries() == {"notes-r2-1": InstanceState.READY}
        if unharmed:
            break
        calls += 1
    assert calls > 20
    assert world.proxy.rollouts == (["notes-r1", "notes-r2"] if environment is Environment.CANARY else [])


@pytest.mark.parametrize(
    ("fails", "condition", "started"),
    [
        (False, is_done(2), ["notes-r1-1", "notes-r2-1"]),
        (True, has_come_back, ["notes-r1-1", "notes-r2-1", "notes-r1-2"]),
    ],
    ids=["well", "failing"],
)
async def test_the_deployer_may_die_after_any_call_of_a_stop_first_release(
    redis: Redis, fails: bool, condition: Condition, started: list[str]
) -> None:
    world = await with_one_live(redis)
    await world.release(2, manifest=FAILS if fails else with_volume())
    restored, calls = await world.saved(), 0
    while True:
        world = await restored()
        unharmed = await world.live_until(condition, Fuse(calls))
        why = f"killed after {calls} calls"
        assert unharmed or await world.live_until(condition, Fuse(NEVER)), why
        assert (world.driver.violations, world.proxy.violations) == ([], []), why
        assert world.driver.started == started, why
        assert world.driver.stopped == ["notes-r1-1"], why
        assert await down_s(world, "notes-r2"), why
        if unharmed:
            break
        calls += 1
    assert calls > 20
