"""Production is watched as canaries are: its live release, remembered while the registry is empty; never aborted."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from services.monitor.alerts.alert import AlertState
from services.monitor.config import Settings
from services.monitor.rules.rule import Metric, Rule
from shared import events
from shared.models import Environment, Event
from tests.support.monitor.monitor_world import Monitor, World

pytestmark = pytest.mark.anyio


@pytest.fixture
def world() -> World:
    return World(release=None, state=None, instances={}, production={"notes-r8-1": "ready", "notes-r8-2": "ready"})


@pytest.fixture
async def monitor(world: World, tmp_path: Path, redis: Redis) -> AsyncIterator[Monitor]:
    settings = Settings(home=tmp_path, token=SecretStr("token"))
    async with httpx.AsyncClient(transport=httpx.MockTransport(world.answer)) as http:
        yield Monitor(world, settings, http, redis)


async def tell(monitor: Monitor, redis: Redis, kind: str, subject: str) -> None:
    event = Event(type=kind, app="notes", at=monitor.clock(), id=subject, reason="told so", environment="production")
    follower = monitor.follower(redis)
    await events.append(redis, event)
    for _ in range(3):  # makes the group, looks for what was taken before, reads
        await follower.step(block_ms=1)


async def test_errors_in_production_are_an_alert_that_aborts_nothing(monitor: Monitor, world: World) -> None:
    for _ in range(6):
        await monitor.second(stable=(20, 1))
    fired = monitor.alert("errors:notes-r8")
    assert (fired.state, fired.environment, fired.aborts) == (AlertState.FIRING, Environment.PRODUCTION, False)
    assert fired.reason == "failed 4 of 80 requests in 4 s"
    assert (fired.value, fired.threshold) == (0.05, 0.05)
    for _ in range(20):
        await monitor.second(stable=(20, 0))
    assert monitor.alert("errors:notes-r8").state == AlertState.RESOLVED
    assert world.aborts == []


async def test_a_canarys_errors_are_not_productions(monitor: Monitor, world: World, redis: Redis) -> None:
    await monitor.second()
    world.release, world.state, world.instances = "notes-r9", "progressing", {"notes-r9-1": "ready"}
    await tell(monitor, redis, "instance.starting", "notes-r9-1")
    await monitor.until_aborted()
    await monitor.second()
    assert monitor.states() == {"analysis:notes-r9": "gone"}
    assert len(world.aborts) == 1


async def test_an_app_without_a_canary_costs_one_call_every_two_seconds(monitor: Monitor, world: World) -> None:
    for _ in range(10):
        await monitor.second()
    assert world.asked.count("/traffic") == 5
    assert world.asked.count("/apps/notes/rollout") == 0
    assert (world.asked.count("/registry"), world.asked.count("/stats")) == (5, 10)
    world.release, world.state, world.instances = "notes-r9", "progressing", {"notes-r9-1": "ready"}
    await monitor.second()
    world.asked.clear()
    for _ in range(10):
        await monitor.second()
    assert world.asked.count("/registry") == 10
    assert world.asked.count("/traffic") == world.asked.count("/apps/notes/rollout") == 10


async def test_a_clock_that_is_set_back_stops_no_evaluation(monitor: Monitor, world: World) -> None:
    await monitor.second()
    world.time -= timedelta(hours=1)
    world.asked.clear()
    await monitor.second()
    assert world.asked == ["/stats", "/registry", "/traffic"]


async def test_a_canary_that_the_registry_does_not_show_is_found_by_its_traffic(monitor: Monitor, world: World) -> None:
    world.release, world.state = "notes-r9", "progressing"
    for _ in range(5):
        await monitor.second(canary=(30, 30), stable=(60, 0))
    assert [abort["release"] for abort in world.aborts] == ["notes-r9"]


async def test_an_ill_instance_of_production_is_an_alert(monitor: Monitor, world: World, redis: Redis) -> None:
    await monitor.second()
    await tell(monitor, redis, "instance.unhealthy", "notes-r7-9")  # of another release
    assert monitor.states() == {}
    await tell(monitor, redis, "instance.unhealthy", "notes-r8-2")
    assert monitor.states() == {"health:notes-r8": "firing"}
    assert (monitor.alert("health:notes-r8").reason, monitor.woken) == ("told so", 1)
    world.production["notes-r8-2"] = "unhealthy"
    for _ in range(4):
        await monitor.second()
    assert monitor.states() == {"health:notes-r8": "firing"}
    assert world.aborts == []


@pytest.mark.parametrize("loss", ["empty", "silent"])
async def test_a_registry_that_is_empty_or_silent_ends_no_alert(monitor: Monitor, world: World, loss: str) -> None:
    await monitor.alerts.put_rule(Rule(name="full", metric=Metric.MEMORY, threshold=0.5))
    await monitor.second()
    assert monitor.states() == {"full:notes-r8": "firing"}
    kept, world.production = world.production, {}
    world.down = {"/registry", "/stats"} if loss == "silent" else set()
    for _ in range(30):
        await monitor.second()
    emptied = {"health:notes-r8": "firing"} if loss == "empty" else {}
    assert monitor.states() == {"full:notes-r8": "firing"} | emptied
    world.production, world.down = kept, set()
    for _ in range(4):
        await monitor.second()
    resolved = {"health:notes-r8": "resolved"} if loss == "empty" else {}
    assert monitor.states() == {"full:notes-r8": "firing"} | resolved


async def test_nothing_left_of_production_is_an_alert_after_five_seconds(monitor: Monitor, world: World) -> None:
    await monitor.second()
    world.production = {}
    for _ in range(5):
        await monitor.second()
    assert monitor.alerts.alerts() == []
    world.down = {"/registry"}  # the time in which nobody answers does not count
    for _ in range(10):
        await monitor.second()
    world.down = set()
    for _ in range(5):
        await monitor.second()
    assert monitor.alerts.alerts() == []
    for _ in range(2):
        await monitor.second()
    fired = monitor.alert("health:notes-r8")
    assert (fired.state, fired.reason) == (AlertState.FIRING, "no instance of notes-r8 is in the registry")


async def test_it_is_gone_when_only_another_release_is_ready(monitor: Monitor, world: World) -> None:
    await monitor.alerts.put_rule(Rule(name="full", metric=Metric.MEMORY, threshold=0.5))
    await monitor.second()
    world.production["notes-r10-1"] = "ready"
    for _ in range(4):
        await monitor.second()
    assert monitor.states() == {"full:notes-r8": "firing", "full:notes-r10": "firing"}
    world.production |= {"notes-r8-1": "draining", "notes-r8-2": "draining"}
    for _ in range(2):
        await monitor.second()
    assert monitor.states() == {"full:notes-r8": "gone", "full:notes-r10": "firing"}
    assert monitor.alert("full:notes-r8").reason == "production runs notes-r10 now"


@pytest.mark.parametrize("kind", ["release.retired", "release.rolled_back", "release.failed"])
async def test_it_is_gone_when_an_event_ends_the_release(
    monitor: Monitor, world: World, redis: Redis, kind: str
) -> None:
    await monitor.alerts.put_rule(Rule(name="full", metric=Metric.MEMORY, threshold=0.5))
    await monitor.second()
    world.production = {}
    await tell(monitor, redis, kind, "notes-r7")
    assert monitor.states() == {"full:notes-r8": "firing"}
    await tell(monitor, redis, kind, "notes-r8")
    assert (monitor.states(), monitor.alert("full:notes-r8").reason) == ({"full:notes-r8": "gone"}, "told so")
    for _ in range(10):
        await monitor.second()
    assert monitor.states() == {"full:notes-r8": "gone"}  # what was ended is not missed


async def test_a_slow_production_is_found_by_a_rule_of_ones_own(monitor: Monitor, world: World) -> None:
    await monitor.alerts.put_rule(
        Rule(name="slow", metric=Metric.LATENCY_MS, threshold=200, environment=Environment.PRODUCTION, aborts=True)
    )
    world.slow_ms = {"stable": 240}
    for _ in range(4):
        await monitor.second(stable=(20, 0))
    fired = monitor.alert("slow:notes-r8")
    assert (fired.state, fired.reason) == (AlertState.FIRING, "its p95 is 242 ms of 40 requests in 2 s")
    assert (fired.abort, world.aborts) == (None, [])


async def test_a_rule_of_another_app_or_environment_does_not_look(monitor: Monitor, world: World) -> None:
    for name, scope in (("a", {"app": "other"}), ("b", {"environment": Environment.CANARY})):
        await monitor.alerts.put_rule(Rule(name=name, metric=Metric.MEMORY, threshold=0.5, **scope))
    await monitor.alerts.put_rule(Rule(name="c", metric=Metric.MEMORY, threshold=0.5, app="notes"))
    await monitor.second()
    assert monitor.states() == {"c:notes-r8": "firing"}
    narrowed = Rule(name="c", metric=Metric.MEMORY, threshold=0.5, app="other")
    await monitor.alerts.put_rule(narrowed)
    for _ in range(2):
        await monitor.second()
    assert monitor.states() == {"c:notes-r8": "gone"}


async def test_an_artifact_that_cannot_be_built_again_is_an_alert_until_it_is_found_or_replaced(
    monitor: Monitor, world: World, redis: Redis
) -> None:
    world.production = {}  # the whole platform was started again: the monitor knows of no live release
    await tell(monitor, redis, "artifact.gone", "notes-r8")
    assert monitor.states() == {}
    await tell(monitor, redis, "artifact.lost", "notes-r8")
    alert = monitor.alert("artifact:notes-r8")
    assert (alert.state, alert.reason, alert.environment) == (AlertState.FIRING, "told so", Environment.PRODUCTION)
    for _ in range(8):
        await monitor.second()
    assert monitor.states() == {"artifact:notes-r8": "firing", "health:notes-r8": "firing"}
    await tell(monitor, redis, "artifact.found", "notes-r8")
    assert monitor.alert("artifact:notes-r8").state == AlertState.RESOLVED

    await tell(monitor, redis, "artifact.lost", "notes-r8")
    world.production = {"notes-r9-1": "ready"}
    for _ in range(3):
        await monitor.second()
    assert set(monitor.states().values()) == {"gone"} and world.aborts == []


async def test_a_lost_canary_is_an_alert_that_aborts_nothing(monitor: Monitor, world: World, redis: Redis) -> None:
    world.release, world.state = "notes-r9", "progressing"
    event = Event(type="artifact.lost", app="notes", at=monitor.clock(), id="notes-r9", environment="canary")
    follower = monitor.follower(redis)
    await events.append(redis, event)
    await events.append(redis, event.model_copy(update={"id": "notes-r7"}))  # it is not rolled out any more
    for _ in range(3):
        await follower.step(block_ms=1)
    assert monitor.states() == {"artifact:notes-r9": "firing"}
    assert not monitor.alert("artifact:notes-r9").aborts
