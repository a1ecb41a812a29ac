"""Releases with volumes carried out. The deployer dies at every single step in tests/integration."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from redis.asyncio import Redis

from shared.models import Environment, InstanceState, ReleaseState
from shared.proxy_models import InstanceRoute
from tests.support.deployer.fakes import a_release, with_volume
from tests.support.deployer.mortal import NEVER, Fuse, World, has_states, is_done, with_one_live

pytestmark = pytest.mark.anyio


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

    async def sync(app: str, body: Mapping[str, Any]) -> dict[str, InstanceRoute]:
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
