"""Releases with volumes carried out, and the deployer dying at every single step."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from redis.asyncio import Redis

from shared.models import Environment, InstanceState, ReleaseState
from shared.proxy_models import RouteState
from tests.support.deployer.fakes import a_release, with_volume
from tests.unit.deployer.reconcile.test_environment_reconciler import Condition, Fuse, World, has_states, is_done

pytestmark = pytest.mark.anyio
NEVER = float("inf")
FAILS = with_volume(run={"command": "exit 3"})


async def down_s(world: World, release_id: str) -> float | None:
    release = await world.store.release(release_id)
    return None if release is None else release.down_s


async def has_come_back(world: World) -> bool:
    """The second release failed, and only the first is in the registry, ready, and known to be served."""
    release = await world.store.release("notes-r2")
    has_failed = release is not None and release.state is ReleaseState.FAILED and release.down_s is not None
    return has_failed and await world.entries() == {"notes-r1-2": InstanceState.READY}


async def with_one_live(redis: Redis, environment: Environment = Environment.PRODUCTION) -> World:
    world = World(redis, environment)
    world.proxy.stop_first = True
    await world.release(1, manifest=with_volume())
    assert await world.live_until(is_done(1), Fuse(NEVER))
    return world


@pytest.mark.parametrize(
    ("fails", "condition", "started"),
    [
        (False, is_done(2), ["notes-r1-1", "notes-r2-1"]),
        (True, has_come_back, ["notes-r1-1", "notes-r2-1", "notes-r1-2"]),
    ],
    ids=["well", "failing"],
)
@pytest.mark.slow
async def test_the_deployer_may_die_after_any_call_it_makes(
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


async def test_a_canary_goes_stop_first_too(redis: Redis) -> None:
    world = await with_one_live(redis, Environment.CANARY)
    await world.release(2, manifest=with_volume())
    assert await world.live_until(is_done(2), Fuse(NEVER))
    assert (world.driver.violations, world.proxy.violations) == ([], [])
    assert world.proxy.rollouts == ["notes-r1", "notes-r2"]


async def test_a_release_whose_artifact_is_gone_leaves_the_old_one_alone(redis: Redis) -> None:
    world = await with_one_live(redis)
    await world.release(2, manifest=with_volume())
    world.driver.gone.add(a_release(2).artifact.ref)
    failed = {"notes-r1": ReleaseState.LIVE, "notes-r2": ReleaseState.FAILED}
    assert await world.live_until(has_states(failed), Fuse(NEVER))
    assert world.driver.stopped == [] and list(await world.entries()) == ["notes-r1-1"]


async def test_the_proxy_is_asked_about_the_release_before_the_old_one_leaves(redis: Redis) -> None:
    """Its manifest may name a host that the proxy refuses. In one life: what the proxy said before is known."""
    world = World(redis)
    world.proxy.stop_first = True
    asked: list[list[InstanceState]] = []
    inner = world.proxy.sync

    async def sync(app: str, body: Mapping[str, Any]) -> dict[str, RouteState]:
        if "new.example" in body["hosts"]:
            asked.append(list((await world.entries()).values()))
        return await inner(app, body)

    async def release_second() -> None:
        while not await is_done(1)(world):
            await asyncio.sleep(0.002)
        await world.release(2, manifest=with_volume(hosts=["new.example"]))

    world.proxy.sync = sync  # type: ignore[method-assign]
    await world.release(1, manifest=with_volume())
    releasing = asyncio.create_task(release_second())
    assert await world.live_until(is_done(2), Fuse(NEVER))
    await releasing
    assert asked[0] == [InstanceState.READY]
