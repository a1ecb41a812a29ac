"""Tests that the monitor deletes what it holds of a removed app, in memory and on real Redis, but of no other app."""

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from services.monitor.config import Settings
from services.monitor.notify.notifier_store import NotifierStore
from services.monitor.notify.silence import Silence
from services.monitor.samples.sample import Sample, is_of_app
from services.monitor.samples.sample_store import SampleStore
from services.monitor.scaling.policy_store import PolicyStore
from services.monitor.scaling.scaling_input import EnvironmentKey
from services.monitor.scaling.scaling_loop import Scaling
from services.monitor.scaling.scaling_policy import Policy
from shared import events
from shared.http import ServiceClient
from shared.models import Environment, Event
from tests.support.monitor.monitor_world import Monitor, NoRegistry, World, appended_events

pytestmark = pytest.mark.anyio
E = Environment


async def keys(redis: Redis) -> list[str]:
    """Returns the places at which the app's name is found in what the monitor stores."""
    found = [str(key) for key in await redis.keys("monitor:*notes*")]
    for name in ("policies", "scaling", "alerts", "known", "silences"):
        entries: Any = await redis.hgetall(f"monitor:{name}")
        found += [f"{name} {field}" for field, text in entries.items() if "notes" in text]
    return found


async def removed(redis: Redis, world: World, kind: str, **fields: str) -> None:
    await events.append(redis, Event(type=kind, app="notes", at=world.time, id="notes", **fields))


async def test_nothing_of_a_removed_app_is_left(tmp_path: Path, redis: Redis) -> None:
    world = World()
    policies, silences = PolicyStore(redis), NotifierStore(redis)
    settings = Settings(home=tmp_path, token=SecretStr("token"))
    async with httpx.AsyncClient(transport=httpx.MockTransport(world.answer)) as http:
        monitor = Monitor(world, settings, http, redis)
        follower = monitor.follower(redis)
        await follower.step(block_ms=1)
        for environment in Environment:
            await policies.put_policy(Policy(app="notes", environment=environment))
        for number, app in enumerate(("notes", "other")):
            later = world.time + timedelta(days=1)
            silence = Silence(
                id=str(number), app=app, environment=None, rule=None, reason="x", created_at=world.time, until=later
            )
            await silences.put_silence(silence, world.time)
        world.instances["notes-r9-1"] = "failed"
        for _ in range(4):
            await monitor.second()
        for part in (monitor.alerts, monitor.samples, monitor.traffic):
            await part.flush()
        assert monitor.states() and len(await keys(redis)) >= 6

        world.instances, world.release, world.state = {}, None, None
        await removed(redis, world, "environment.removed", environment="canary")
        await follower.step(block_ms=1)
        left = [(policy.app, policy.environment) for policy in await policies.policies()]
        assert left == [("notes", E.PRODUCTION)], "the other environment is still there"
        for _ in range(2):
            await removed(redis, world, "app.removed")
            await follower.step(block_ms=1)
        for _ in range(2):
            await monitor.second()
            for part in (monitor.alerts, monitor.samples, monitor.traffic):
                await part.flush()
        assert await keys(redis) == [] and monitor.states() == {}
        ended = [event for event in await appended_events(redis) if event.type == "alert.gone"]
        assert {event.app for event in ended} == {"notes"}  # who was told that it fires is told its end
        assert [silence.app for silence in await silences.silences()] == ["other"]


@pytest.mark.parametrize(
    ("of", "app", "expected"),
    [
        ("notes-r1", "notes", True),
        ("notes-r12-3", "notes", True),
        ("notes-r2-r1-1", "notes", False),
        ("notes-r2-r1-1", "notes-r2", True),
        ("notes-two-r1", "notes", False),
        ("notes", "notes", False),
    ],
)
def test_whose_an_instance_or_release_is(of: str, app: str, expected: bool) -> None:
    assert is_of_app(of, app) is expected


async def test_scaling_decides_nothing_more_about_a_removed_environment(tmp_path: Path, redis: Redis) -> None:
    world, policies = World(), PolicyStore(redis)
    settings = Settings(home=tmp_path, token=SecretStr("token"))
    async with httpx.AsyncClient(transport=httpx.MockTransport(world.answer)) as http:
        monitor = Monitor(world, settings, http, redis)
        scaling = Scaling(
            ServiceClient("deployer", settings, NoRegistry(), http), monitor.samples, policies, monitor.clock
        )
        follower = monitor.follower(redis)
        await monitor.second()
        await scaling.step()
        assert await redis.exists("monitor:decisions:notes:canary")
        await removed(redis, world, "environment.removed", environment="canary")
        for _ in range(2):
            await follower.step(block_ms=1)
        assert monitor.forgotten == [EnvironmentKey("notes", E.CANARY)]
        scaling.forget(monitor.forgotten[0])
        await scaling.step()  # the deployer has not been asked again
        assert not await redis.exists("monitor:decisions:notes:canary")


@pytest.mark.parametrize("kind", ["environment.stopped", "environment.removed"])
async def test_nobody_misses_the_instances_of_a_production_that_people_ended(
    tmp_path: Path, redis: Redis, kind: str
) -> None:
    world = World(release=None, state=None, instances={}, production={"notes-r8-1": "ready"})
    settings = Settings(home=tmp_path, token=SecretStr("token"))
    async with httpx.AsyncClient(transport=httpx.MockTransport(world.answer)) as http:
        monitor = Monitor(world, settings, http, redis)
        follower = monitor.follower(redis)
        await follower.step(block_ms=1)
        await monitor.second()
        world.production = {}
        await monitor.second()
        await removed(redis, world, kind, environment="production", release="notes-r8")
        await follower.step(block_ms=1)
        for _ in range(12):
            await monitor.second()
        assert monitor.states() == {}


async def test_what_is_loaded_while_an_app_is_removed_does_not_come_back(
    tmp_path: Path, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World()
    settings = Settings(home=tmp_path, token=SecretStr("token"))
    async with httpx.AsyncClient(transport=httpx.MockTransport(world.answer)) as http:
        before = Monitor(world, settings, http, redis)
        for _ in range(70):
            await before.second()
        await before.samples.flush()
        after = Monitor(world, settings, http, redis)
        store = SampleStore(redis)
        read = SampleStore.samples

        async def slowly(self: SampleStore, *arguments: Any) -> list[Sample]:
            found = await read(self, *arguments)
            await asyncio.sleep(0.1)
            return found

        monkeypatch.setattr(SampleStore, "samples", slowly)
        loading = asyncio.create_task(after.samples.load(world.time))
        await asyncio.sleep(0.02)
        await after.samples.forget("notes")
        await loading
        world.instances = {}
        for _ in range(70):
            await after.second()
        await after.samples.flush()
        assert not await store.knows("notes-r1-1", world.time)
        assert await keys(redis) == []
