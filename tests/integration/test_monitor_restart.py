"""A monitor that was down comes to the conclusions that it would have come to, and takes up what was stored."""

from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from services.monitor.alerts.alert import AlertState
from services.monitor.alerts.alert_store import ALERTS, RULES
from services.monitor.config import Settings
from services.monitor.loops import RegistryFollower
from services.monitor.rules.rule import Metric, Rule
from shared import events
from shared.errors import Unavailable
from shared.models import Event
from tests.support.monitor.monitor_world import START, Monitor, World, production
from tests.support.monitor.notification_stack import durable_redis

pytestmark = pytest.mark.anyio


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
async def start(world: World, tmp_path: Path, redis: Redis) -> AsyncIterator[Callable[[], Monitor]]:
    """Makes a monitor on the same Redis as the one before."""
    settings = Settings(home=tmp_path, token=SecretStr("token"))
    async with httpx.AsyncClient(transport=httpx.MockTransport(world.answer)) as http:
        yield lambda: Monitor(world, settings, http, redis)


def followed(monitor: Monitor, redis: Redis) -> RegistryFollower:
    return monitor.follower(redis)


async def flush(monitor: Monitor) -> None:
    for part in (monitor.alerts, monitor.samples, monitor.traffic, monitor.live):
        await part.flush()


async def test_a_canary_that_died_meanwhile_is_aborted(
    start: Callable[[], Monitor], world: World, redis: Redis
) -> None:
    before = start()
    await before.second()
    for _ in range(2):
        await followed(before, redis).step(block_ms=1)
    died = Event(type="instance.failed", app="notes", at=world.time, id="notes-r9-1", reason="it ended")
    await events.append(redis, died.model_copy(update={"environment": "canary", "oom_killed": False}))
    world.time += timedelta(seconds=60)
    world.instances = {"notes-r9-2": "ready"}  # started in its place: the registry knows nothing of it any more
    after = start()
    await after.second()
    assert world.aborts == []
    follower = followed(after, redis)
    for _ in range(2):
        await follower.step(block_ms=1)
    await after.aborts.step()
    assert [abort["reason"] for abort in world.aborts] == ["health: it ended"]


@pytest.mark.parametrize("known", ["nothing", "an older rollout"])
async def test_an_event_waits_until_the_rollout_is_known(
    start: Callable[[], Monitor], world: World, redis: Redis, known: str
) -> None:
    monitor = start()
    follower = followed(monitor, redis)
    for _ in range(2):
        await follower.step(block_ms=1)
    if known != "nothing":
        world.release, world.instances = "notes-r8", {"notes-r8-1": "ready"}
        await monitor.second()
    world.down, world.release = {"proxy"}, "notes-r9"
    died = Event(type="instance.failed", app="notes", at=world.time, id="notes-r9-1", reason="it ended")
    await events.append(redis, died)
    for _ in range(2):
        unknown = "the proxy does not say whether notes-r9 is being rolled out: proxy does not answer"
        with pytest.raises(Unavailable, match=unknown):
            await follower.step(block_ms=1)
    world.down = set()
    await follower.step(block_ms=1)
    await monitor.aborts.step()
    assert [abort["release"] for abort in world.aborts] == ["notes-r9"]


async def test_an_event_about_the_known_rollout_needs_no_proxy(
    start: Callable[[], Monitor], world: World, redis: Redis
) -> None:
    monitor = start()
    follower = followed(monitor, redis)
    for _ in range(2):
        await follower.step(block_ms=1)
    await monitor.second()
    world.down = {"proxy"}
    died = Event(type="instance.failed", app="notes", at=world.time, id="notes-r9-1", reason="it ended")
    await events.append(redis, died)
    await follower.step(block_ms=1)
    assert monitor.states() == {"health:notes-r9": "firing"}


async def test_the_samples_of_the_last_five_minutes_are_taken_up(start: Callable[[], Monitor], world: World) -> None:
    before = start()
    for _ in range(400):
        await before.sampler.step()
        world.time += timedelta(seconds=1)
    await flush(before)
    stopped_at = world.time
    world.time += timedelta(seconds=60)
    after = start()
    assert after.samples.recent("notes-r9-1") == []
    await after.sampler.step()
    recent = after.samples.recent("notes-r9-1")
    assert (recent[0].at, recent[-2].at, recent[-1].at) == (
        world.time - timedelta(minutes=5),
        stopped_at - timedelta(seconds=1),
        world.time,
    )
    assert len(recent) == 5 * 60 - 60 + 1  # the gap stays a gap
    assert (recent[-1].cpu, recent[-1].working_set) == (None, 50)


async def test_the_minute_of_a_restart_is_rolled_up_as_a_whole(start: Callable[[], Monitor], world: World) -> None:
    for working_set in (90, 50):  # before and after the restart, in one minute
        monitor = start()
        world.usage["notes-r9-1"] = {"working_set": working_set}
        for _ in range(20 if working_set == 90 else 45):
            await monitor.second(stable=(2, 0), canary=(1, 0))
            await flush(monitor)
    begin = world.time - timedelta(seconds=65)
    [row] = await monitor.sample_store.rollups("notes-r9-1", begin, world.time)
    assert (row.count, row.figures["working_set"].max, row.figures["working_set"].last) == (59, 90, 50)
    [traffic] = await monitor.sample_store.rollups("notes-r9", begin, world.time)
    assert traffic.sums == {"requests": 56, "errors": 0}  # of seconds 2 to 19 and 22 to 59


async def test_restarts_are_neither_forgotten_nor_counted_twice(start: Callable[[], Monitor], world: World) -> None:
    before = start()
    for restarts in (7, 8):  # seven happened before anyone looked
        world.usage["notes-r9-1"] = {"restarts": restarts}
        await before.second()
    await flush(before)
    after = start()
    await after.second()
    reading = after.samples.restarts("notes-r9", world.time)
    assert reading.value == 1
    world.usage["notes-r9-1"] = {"restarts": 9}
    await after.second()
    assert after.samples.restarts("notes-r9", world.time).value == 2
    assert world.aborts == []


async def test_an_alert_about_production_goes_on_after_a_restart(start: Callable[[], Monitor], world: World) -> None:
    world.instances, world.release, world.state = {}, None, None
    world.production = {"notes-r8-1": "unhealthy", "notes-r8-2": "ready"}
    before = start()
    await before.second()
    await flush(before)
    world.production = {}
    after = start()
    for _ in range(10):
        await after.second()
    fired = after.alert("health:notes-r8")
    assert (fired.state, fired.reason) == (AlertState.FIRING, "instance notes-r8-1 is unhealthy")
    world.production = {"notes-r8-3": "ready"}
    for _ in range(2):
        await after.second()
    assert after.alert("health:notes-r8").state == AlertState.RESOLVED


async def test_what_an_alert_is_about_is_watched_though_the_registry_is_empty(
    start: Callable[[], Monitor], world: World
) -> None:
    world.instances, world.release, world.state = {}, None, None
    world.production = {"notes-r8-1": "ready"}
    before = start()
    await before.alerts.put_rule(Rule(name="full", metric=Metric.MEMORY, threshold=0.5))
    await before.second()
    await flush(before)
    world.production = {}
    after = start()
    for _ in range(8):
        await after.second()
    assert after.states() == {"full:notes-r8": "firing", "health:notes-r8": "firing"}
    assert after.alert("health:notes-r8").reason == "no instance of notes-r8 is in the registry"


async def down_meanwhile(start: Callable[[], Monitor], world: World) -> Monitor:
    """A monitor that starts after production, which an earlier one has seen live, has lost its instances."""
    world.instances, world.release, world.state = {}, None, None
    world.production = {"notes-r8-1": "ready"}
    before = start()
    await before.second()
    await flush(before)
    assert before.states() == {}
    world.production = {}
    world.time += timedelta(minutes=10)
    return start()


@pytest.mark.parametrize("first_down", [set(), {"deployer"}, {"proxy"}, {"deployer", "proxy"}])
async def test_an_outage_that_began_while_no_monitor_ran_is_an_alert(
    start: Callable[[], Monitor], world: World, first_down: set[str]
) -> None:
    world.environment = production("notes-r8", problem="its artifact is missing; push again")
    after = await down_meanwhile(start, world)
    world.down = first_down  # the parts come back in any order
    for _ in range(5):
        await after.second()
    world.down = set()
    for _ in range(8):
        await after.second()
    fired = after.alert("health:notes-r8")
    assert fired.state is AlertState.FIRING
    assert fired.reason == "no instance of notes-r8 is in the registry: its artifact is missing; push again"


async def test_an_outage_is_found_though_redis_answers_only_later(
    start: Callable[[], Monitor], world: World, tmp_path: Path
) -> None:
    with durable_redis(tmp_path / "redis") as server:
        async with httpx.AsyncClient(transport=httpx.MockTransport(world.answer)) as http:
            settings = Settings(home=tmp_path, token=SecretStr("token"))
            after = await down_meanwhile(lambda: Monitor(world, settings, http, server.client), world)
            server.kill()
            await after.second()
            server.start()
            await after.live.flush()
            for _ in range(8):
                await after.second()
            assert after.states() == {"health:notes-r8": "firing"}
            await server.client.aclose()


async def test_instances_that_never_get_ready_are_an_outage_after_half_a_minute(
    start: Callable[[], Monitor], world: World
) -> None:
    starting = {"id": "notes-r8-2", "state": "starting", "reason": "the image is gone"}
    world.environment = production("notes-r8", instances=[])
    after = await down_meanwhile(start, world)
    world.production = {"notes-r8-2": "starting"}
    for _ in range(29):
        await after.second()
    assert after.states() == {}
    record = {"release": "notes-r8", "commit": "0" * 40, "address": "127.0.0.1:1", "memory_limit": 100}
    world.environment["instances"] = [{**record, **starting, "updated_at": START.isoformat()}]
    for _ in range(13):
        await after.second()
    fired = after.alert("health:notes-r8")
    assert fired.state is AlertState.FIRING
    assert fired.reason.startswith("no instance of notes-r8 was ready for 30 s")
    world.production = {"notes-r8-2": "unhealthy"}
    await after.second()
    world.production = {"notes-r8-3": "starting"}
    for _ in range(5):
        await after.second()
    assert after.states() == {"health:notes-r8": "firing"}  # one that starts does not serve yet
    world.production = {"notes-r8-3": "ready"}
    for _ in range(3):
        await after.second()
    assert after.states() == {"health:notes-r8": "resolved"}


async def test_a_new_release_that_starts_in_place_of_the_old_one_is_no_outage(
    start: Callable[[], Monitor], world: World
) -> None:
    world.environment = production("notes-r8")
    after = await down_meanwhile(start, world)
    world.production = {"notes-r8-1": "draining", "notes-r9-1": "starting"}
    for _ in range(60):
        await after.second()
    assert after.states() == {}


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (production("notes-r8", state="stopped", reason="stopped by order"), "stopped by order"),
        (production(None), "the deployer has no live release of notes in production"),
        (production("notes-r9"), "production runs notes-r9 now"),
    ],
)
async def test_what_people_ended_meanwhile_is_no_outage_and_its_alerts_end(
    start: Callable[[], Monitor], world: World, said: dict[str, Any], reason: str
) -> None:
    """Though the event about it was lost."""
    world.instances, world.release, world.state = {}, None, None
    world.production = {"notes-r8-1": "unhealthy", "notes-r8-2": "ready"}
    before = start()
    await before.second()
    await flush(before)
    assert before.states() == {"health:notes-r8": "firing"}
    world.production, world.environment = {}, said
    after = start()
    for _ in range(4):
        await after.second()
    ended = after.alert("health:notes-r8")
    assert (ended.state, ended.reason) == (AlertState.GONE, reason)


async def test_a_production_that_was_removed_is_no_outage_but_lost_records_are_one(
    start: Callable[[], Monitor], world: World, redis: Redis
) -> None:
    world.environment = {}
    removed = await down_meanwhile(start, world)
    for _ in range(8):
        await removed.second()
    assert removed.states() == {}
    world.production = {"notes-r8-1": "ready"}
    lost = start()
    await lost.second()
    await flush(lost)
    world.production = {}
    await redis.flushdb()
    for _ in range(8):
        await lost.second()
    assert lost.states() == {"health:notes-r8": "firing"}


async def test_what_cannot_be_read_does_not_stop_the_rest(
    start: Callable[[], Monitor], world: World, redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    full = Rule(name="full", metric=Metric.MEMORY, threshold=0.5)
    await redis.hset(RULES, mapping={"odd": '{"name": "odd", "metric": "luck"}', "full": full.model_dump_json()})
    await redis.hset(ALERTS, "odd:notes-r9", "{")
    monitor = start()
    await monitor.second()
    assert monitor.states() == {"full:notes-r9": "firing"}
    assert "a stored Rule cannot be read" in caplog.text
    assert "a stored Alert cannot be read" in caplog.text
