"""The monitor's loops against a deployer and a proxy that answer over HTTP: a canary on its way, step by step."""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr, ValidationError
from redis.asyncio import Redis

from services.monitor.alerts.alert import AbortState, Alert, AlertState
from services.monitor.alerts.alert_store import AlertStore
from services.monitor.config import Settings
from services.monitor.rules.rule import Metric, Rule
from shared import events
from shared.models import Event
from shared.store import RedisError
from tests.support.kept_items import kept_items
from tests.support.monitor.monitor_world import START, Monitor, World, appended_events

pytestmark = pytest.mark.anyio


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, token=SecretStr("token"))


@pytest.fixture
async def http(world: World) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.MockTransport(world.answer)) as client:
        yield client


@pytest.fixture
def monitor(world: World, settings: Settings, http: httpx.AsyncClient, redis: Redis) -> Monitor:
    return Monitor(world, settings, http, redis)


async def test_a_canary_that_answers_500_is_aborted_and_it_is_said_why(monitor: Monitor, world: World) -> None:
    world.state, world.release = None, None
    await monitor.second()  # the canary's instance is there, its rollout not yet
    world.state, world.release = "progressing", "notes-r9"
    assert await monitor.until_aborted(canary=(41, 41), stable=(80, 0)) == 3  # a burst of 2 s proves nothing
    words = "errors: 123 of 123 requests to the canary failed (100.0 %), 0 of 240 to production (0.0 %)"
    [abort] = world.aborts
    assert (abort["release"], abort["reason"]) == ("notes-r9", f"analysis: {words}")
    seen = abort["evidence"].pop("seen")
    assert abort["evidence"] == {
        **{"alert": "analysis:notes-r9", "rule": "analysis", "metric": "analysis", "value": 1.0, "threshold": 1.0},
        **{"words": words, "since": "2026-01-01T00:00:04+00:00"},
    }
    assert (seen["verdict"]["result"], seen["verdict"]["score"], seen["verdict"]["reason"]) == ("fail", 0, words)
    assert {harm["name"] for harm in seen["verdict"]["harms"]} >= {"errors", "gross errors", "latency"}
    assert (seen["verdict"]["requests"], seen["errors_by_kind"]["canary"]) == (
        {"canary": 123, "stable": 240},
        {"status": 123},
    )
    assert (seen["weight"], seen["step"], seen["left_out"]) == (33, 0, {"forced": 3})
    assert seen["judged_at"] == "2026-01-01T00:00:04+00:00"
    assert len(json.dumps(abort["evidence"] | {"seen": seen})) < 16 * 1024
    assert monitor.woken == 1
    fired = monitor.alert("analysis:notes-r9")
    assert (fired.state, fired.abort) == (AlertState.FIRING, AbortState.CONFIRMED)
    await monitor.second()
    gone = monitor.alert("analysis:notes-r9")
    assert (gone.state, gone.reason) == (AlertState.GONE, "the rollout of notes-r9 is aborted")
    assert len(world.aborts) == 1


async def test_a_healthy_canary_is_left_alone(monitor: Monitor, world: World) -> None:
    for _ in range(15):
        await monitor.second(canary=(33, 1), stable=(67, 1))
    assert world.aborts == []
    assert monitor.alerts.alerts() == []


async def test_a_canary_as_bad_as_stable_is_left_alone(monitor: Monitor, world: World) -> None:
    for _ in range(5):
        await monitor.second(canary=(33, 30), stable=(67, 60))
    assert world.aborts == []


async def test_no_data_resolves_nothing_and_fires_nothing(monitor: Monitor, world: World) -> None:
    await monitor.alerts.put_rule(Rule(name="errors", metric=Metric.ERROR_SHARE, threshold=0.05))
    await monitor.second(canary=(30, 0))
    await monitor.second(canary=(30, 30))
    assert monitor.alert("errors:notes-r9").state == AlertState.FIRING
    world.down = {"deployer", "proxy"}
    for _ in range(30):
        await monitor.second()
    world.down = {"deployer"}
    world.epoch = "e2"  # and no visitors since
    world.canary, world.stable = [0, 0], [0, 0]
    for _ in range(30):
        await monitor.second()
    assert monitor.alert("errors:notes-r9").state == AlertState.FIRING
    for _ in range(3):
        await monitor.second(canary=(30, 0))
    assert monitor.alert("errors:notes-r9").state == AlertState.RESOLVED
    assert {alert.rule for alert in monitor.alerts.alerts()} == {"errors"}


async def test_an_abort_is_repeated_until_it_is_confirmed(monitor: Monitor, world: World) -> None:
    world.instances["notes-r9-1"] = "unhealthy"
    world.abort_answers = [503, 500, 504]
    for _ in range(3):
        await monitor.second()
        assert monitor.alert("health:notes-r9").abort == AbortState.WANTED
    world.instances["notes-r9-1"] = "ready"  # well again: it is aborted all the same
    world.down = {"proxy"}
    await monitor.second()
    world.down = set()
    await monitor.second()
    confirmed = monitor.alert("health:notes-r9")
    assert (confirmed.state, confirmed.abort) == (AlertState.RESOLVED, AbortState.CONFIRMED)
    reasons = [(abort["release"], abort["reason"]) for abort in world.aborts]
    assert reasons == [("notes-r9", "health: instance notes-r9-1 is unhealthy")] * 4
    await monitor.second()
    assert len(world.aborts) == 4


async def test_an_alert_of_one_release_never_aborts_the_next(monitor: Monitor, world: World) -> None:
    world.release = "notes-r7"
    world.instances = {"notes-r7-1": "failed"}
    world.abort_answers = [503]
    await monitor.second()
    world.release = "notes-r8"
    world.instances = {"notes-r7-1": "failed", "notes-r8-1": "ready"}
    await monitor.second(canary=(30, 0))
    assert {abort["release"] for abort in world.aborts} == {"notes-r7"}
    assert world.state == "progressing"
    old = monitor.alert("health:notes-r7")
    assert (old.state, old.abort) == (AlertState.GONE, AbortState.OBSOLETE)
    await monitor.second(canary=(30, 0))
    assert len(world.aborts) == 2
    assert [alert.release for alert in monitor.alerts.alerts()] == ["notes-r7"]


async def test_an_alert_of_one_release_does_not_keep_the_next_from_being_aborted(
    monitor: Monitor, world: World
) -> None:
    world.release, world.instances = "notes-r7", {"notes-r7-1": "failed"}
    world.abort_answers = [503, 503, 503]
    await monitor.second()
    assert monitor.alert("health:notes-r7").abort == AbortState.WANTED
    world.release, world.instances = "notes-r8", {"notes-r7-1": "failed", "notes-r8-1": "failed"}
    await monitor.second()  # both are asked for, neither is confirmed
    assert {abort["release"] for abort in world.aborts[1:]} == {"notes-r7", "notes-r8"}
    await monitor.second()
    assert monitor.alert("health:notes-r8").abort == AbortState.CONFIRMED
    assert monitor.alert("health:notes-r7").abort == AbortState.OBSOLETE


async def test_a_canary_without_samples_is_aborted_after_ten_seconds(monitor: Monitor, world: World) -> None:
    await monitor.second()
    world.sampled = False
    for _ in range(10):
        await monitor.second()
    assert world.aborts == []
    for _ in range(2):
        await monitor.second()
    assert [abort["reason"] for abort in world.aborts] == ["samples: instance notes-r9-1 gave no samples for 10 s"]


async def test_a_deployer_that_does_not_answer_is_no_fault_of_the_canary(monitor: Monitor, world: World) -> None:
    await monitor.second()
    world.down = {"deployer"}
    for _ in range(30):
        await monitor.second(canary=(10, 0))
    assert monitor.sampler.problem == "deployer does not answer: ReadTimeout"
    assert world.aborts == []
    world.down = set()
    await monitor.second()
    assert monitor.sampler.problem is None
    assert world.aborts == []


async def test_time_without_answers_is_no_silence_of_an_instance(monitor: Monitor, world: World) -> None:
    await monitor.second()
    world.sampled = False
    for down in (set[str](), {"/stats"}, set[str]()):
        world.down = down
        for _ in range(6):
            await monitor.second()
    assert world.aborts == []


async def test_a_deployer_that_is_silent_for_long_is_no_alert(monitor: Monitor, world: World) -> None:
    world.production = {"notes-r8-1": "ready"}
    await monitor.second(canary=(10, 0), stable=(20, 0))
    world.down = {"deployer"}
    for _ in range(30):
        await monitor.second(canary=(10, 0), stable=(20, 0))
    assert monitor.alerts.alerts() == []
    assert monitor.sampler.problem == "deployer does not answer: ReadTimeout"
    world.down = set()
    for _ in range(15):
        await monitor.second(canary=(10, 0), stable=(20, 0))
    assert monitor.alerts.alerts() == []


async def test_a_rule_that_cannot_be_judged_does_not_stop_the_others(
    monitor: Monitor, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    whole = Rule(name="a-first", metric=Metric.CPU, threshold=1)
    broken = Rule.model_construct(**dict(whole) | {"threshold": "high"})
    with pytest.warns(UserWarning, match="serialized value may not be as expected"):
        await monitor.alerts.put_rule(broken)
    for second in range(3):
        world.usage["notes-r9-1"] = {"cpu_seconds": 1.0 + second}
        await monitor.second()
    world.instances["notes-r9-1"] = "failed"
    await monitor.second()
    assert len(world.aborts) == 1
    said = ["rule a-first cannot be judged about notes-r9; replace or delete it"]
    assert [record.message for record in caplog.records if "cannot be judged" in record.message] == said
    await monitor.alerts.delete_rule("a-first")
    await monitor.second()
    with pytest.warns(UserWarning, match="serialized value may not be as expected"):
        await monitor.alerts.put_rule(broken)
    world.state, world.instances = "progressing", {"notes-r9-1": "ready"}
    await monitor.second()
    assert [record.message for record in caplog.records if "cannot be judged" in record.message] == said * 2


async def test_a_slow_canary_is_aborted_after_ten_seconds_by_a_rule_of_ones_own(monitor: Monitor, world: World) -> None:
    rule = Rule(name="latency", metric=Metric.LATENCY, threshold=2, clear=1.5, for_s=10, aborts=True)
    await monitor.alerts.put_rule(rule)  # the name of an earlier default rule
    world.slow_ms = {"canary": 240}
    seconds = 0
    while not world.aborts and seconds < 60:
        await monitor.second(canary=(33, 0), stable=(67, 0))
        seconds += 1
    [abort] = world.aborts
    assert seconds == 15  # 1 s: first look; 4 s: 100 requests of the canary; 10 s: so long it must last
    assert abort["reason"].startswith("latency: its p95 is 242 ms of ")
    assert abort["evidence"]["value"] == pytest.approx(10.2, abs=0.1)
    assert abort["evidence"]["seen"]["stable_p95_ms"] == 23.75


async def test_a_canary_that_crashes_again_and_again_is_aborted(monitor: Monitor, world: World) -> None:
    for restarts in range(4):
        assert world.aborts == []
        name = f"notes-r9-{restarts + 1}"
        world.instances, world.usage = {name: "ready"}, {name: {"restarts": restarts}}
        await monitor.second()
    assert [abort["reason"] for abort in world.aborts] == ["restarts: restarted 3 times within 10 min"]


async def test_memory_at_the_cap_aborts_below_it_does_not(monitor: Monitor, world: World) -> None:
    world.usage["notes-r9-1"] = {"working_set": 95, "memory_limit": 100}
    await monitor.second()
    assert monitor.states() == {"memory:notes-r9": "pending"}
    world.usage["notes-r9-1"] = {"working_set": 350, "memory_limit": 400}
    await monitor.second()
    reasons = [abort["reason"] for abort in world.aborts]
    assert reasons == ["MemoryAtCap: instance notes-r9-1 uses 88% of its largest memory limit"]


@pytest.mark.parametrize(
    ("limit", "killed", "fired"),
    [
        (400, True, {"health:notes-r9", "MemoryAtCap:notes-r9"}),
        (100, True, set()),  # it is given more memory
        (100, False, {"health:notes-r9"}),
    ],
)
async def test_an_oom_kill_aborts_where_no_more_memory_can_be_given(
    monitor: Monitor, world: World, redis: Redis, limit: int, killed: bool, fired: set[str]
) -> None:
    follower = monitor.follower(redis)
    await monitor.second()
    fields = {"environment": "canary", "release": "notes-r9"}
    memory = {"oom_killed": killed, "memory_limit": limit, "max_memory": 400}
    event = Event(
        type="instance.failed", app="notes", at=world.time, id="notes-r9-1", reason="killed", **fields, **memory
    )
    await events.append(redis, event)
    for _ in range(3):
        await follower.step(block_ms=1)
    world.instances["notes-r9-1"] = "failed"
    await monitor.second()
    assert {alert.id for alert in monitor.alerts.alerts()} == fired
    assert bool(world.aborts) == bool(fired)
    assert {kill.limit for kill in monitor.kills} == ({limit} if killed else set()), "scaling hears of it"


async def test_an_answer_that_makes_no_sense_does_not_keep_other_apps_from_being_watched(
    monitor: Monitor, world: World
) -> None:
    world.others = {"another": {"app": "another", "release": "another-r1", "state": "wobbling"}}
    with pytest.raises(ValidationError):
        await monitor.second()
    for _ in range(3):
        with pytest.raises(ValidationError):
            await monitor.second(canary=(30, 30), stable=(60, 0))
    assert monitor.alert("analysis:notes-r9").abort == AbortState.WANTED


async def test_traffic_of_one_app_that_cannot_be_read_keeps_no_other_from_being_watched(
    monitor: Monitor, world: World
) -> None:
    world.others = {"another": {"app": "another", "release": None, "tracks": "garbled"}}
    await monitor.second()
    await monitor.until_aborted()
    assert [abort["evidence"]["rule"] for abort in world.aborts] == ["analysis"]
    assert "cannot be read" in (monitor.figures.problem or "")


@pytest.mark.parametrize("answer", [{"items": [{}], "next": None}, {"items": "garbled", "next": None}])
async def test_traffic_that_cannot_be_read_at_all_leaves_health_watched(
    monitor: Monitor, world: World, answer: dict[str, Any]
) -> None:
    world.traffic_answer = answer
    world.instances["notes-r9-1"] = "unhealthy"
    await monitor.second()
    assert [abort["evidence"]["rule"] for abort in world.aborts] == ["health"]
    assert "cannot be read" in (monitor.figures.problem or "")


async def test_with_the_deployer_down_a_known_canary_is_still_watched(monitor: Monitor, world: World) -> None:
    await monitor.second()
    world.down = {"deployer"}
    await monitor.until_aborted()
    assert [abort["release"] for abort in world.aborts] == ["notes-r9"]


async def test_an_empty_registry_ends_no_watch(monitor: Monitor, world: World) -> None:
    await monitor.second()
    world.instances = {}
    await monitor.until_aborted()
    assert [abort["release"] for abort in world.aborts] == ["notes-r9"]


async def test_apps_that_came_and_went_take_no_memory(monitor: Monitor, world: World) -> None:
    world.release, world.state, world.instances = None, None, {}
    kept = []
    for number in range(4):
        app, release = f"app{number}", f"app{number}-r2"
        counts = {"requests": 30, "errors": 0, "latency": {"le_ms": [None], "counts": [30]}}
        tracks = {"stable": {"release": f"{app}-r1", **counts}, "canary": {"release": release, **counts}}
        rollout = {"app": app, "release": release, "state": "progressing"}
        traffic = {"epoch": app, "share_set": 0.33, "share_seen": None, "tracks": tracks}
        world.others, world.instances = {app: rollout | traffic}, {f"{release}-1": "failed"}
        for _ in range(2):
            await monitor.second()
        world.others, world.instances = {}, {}
        world.time += timedelta(hours=1)  # instances are listed for so long
        for _ in range(4):
            await monitor.second()
        for part in (monitor.samples, monitor.traffic, monitor.alerts):
            await part.flush()
        kept.append(kept_items(monitor.evaluator) + kept_items(monitor.sampler) - kept_items(monitor.alerts))
    assert kept == kept[:1] * 4
    assert not any("app0" in path for path in world.asked[-20:])


async def test_an_alerts_events_say_what_it_is_about(monitor: Monitor, world: World, redis: Redis) -> None:
    await monitor.alerts.put_rule(Rule(name="full", metric=Metric.MEMORY, threshold=0.4, for_s=1))
    world.production = {"notes-r8-1": "ready"}
    world.usage = {"notes-r8-1": {"working_set": 45}, "notes-r9-1": {"working_set": 95}}
    for _ in range(3):
        await monitor.second()
    world.instances["notes-r9-1"] = "failed"
    for _ in range(3):
        await monitor.second()
    await monitor.alerts.flush()
    appended = await appended_events(redis)
    event = [
        (event.type, event.id, *((event.model_extra or {}).get(name) for name in ("rule", "release", "environment")))
        for event in appended
    ]
    assert [item for item in event if item[2] == "full"] == [
        ("alert.pending", "full:notes-r9", "full", "notes-r9", "canary"),
        ("alert.pending", "full:notes-r8", "full", "notes-r8", "production"),
        ("alert.firing", "full:notes-r9", "full", "notes-r9", "canary"),
        ("alert.firing", "full:notes-r8", "full", "notes-r8", "production"),
        ("alert.gone", "full:notes-r9", "full", "notes-r9", "canary"),
    ]
    figures = {
        event.id: {name: (event.model_extra or {})[name] for name in ("value", "threshold", "aborts")}
        for event in appended
        if event.type == "alert.firing"
    }
    assert figures["health:notes-r9"] == {"value": 1, "threshold": 1, "aborts": True}
    assert figures["full:notes-r8"] == {"value": 0.45, "threshold": 0.4, "aborts": False}


async def test_apps_that_came_one_after_the_other_are_evaluated_together(monitor: Monitor, world: World) -> None:
    world.instances, world.release, world.state = {}, None, None
    for number in range(4):
        world.without_canary.append(f"app-{number}")
        monitor.evaluator.expect_change()
        world.time += timedelta(seconds=0.5)
        await monitor.evaluator.step()
    world.asked.clear()
    for _ in range(16):
        world.time += timedelta(seconds=0.5)
        await monitor.evaluator.step()
    assert world.asked.count("/traffic") == 4


async def test_the_traffic_tells_the_rollout_too(monitor: Monitor, world: World) -> None:
    world.rollout_in_traffic = True
    for _ in range(3):
        await monitor.second()
    assert "/apps/notes/rollout" not in world.asked
    assert "/traffic" in world.asked

    world.instances["notes-r9-1"] = "failed"
    await monitor.second()
    assert [abort["release"] for abort in world.aborts] == ["notes-r9"]

    world.state = "aborted"
    await monitor.second()
    assert monitor.alert("health:notes-r9").state == AlertState.GONE


async def test_a_silent_proxy_is_said(monitor: Monitor, world: World) -> None:
    await monitor.second()
    assert monitor.figures.problem is None
    for down in ("proxy", "/traffic", "/apps/notes/rollout"):
        world.down = {down}
        await monitor.second()
        assert monitor.figures.problem == "proxy does not answer: ReadTimeout"
    world.down = set()
    await monitor.second()
    assert monitor.figures.problem is None


async def test_a_rule_of_ones_own_fires_after_its_time_and_does_not_abort(monitor: Monitor, world: World) -> None:
    world.usage["notes-r9-1"] = {"working_set": 95}
    await monitor.alerts.put_rule(Rule(name="full", metric=Metric.MEMORY, threshold=0.9, for_s=3))
    for _ in range(3):
        await monitor.second()
    assert monitor.alert("full:notes-r9").state == AlertState.PENDING
    await monitor.second()
    fired = monitor.alert("full:notes-r9")
    assert (fired.state, fired.reason) == (AlertState.FIRING, "instance notes-r9-1 uses 95% of its memory limit")
    await monitor.alerts.delete_rule("full")
    await monitor.second()
    assert monitor.alert("full:notes-r9").state == AlertState.GONE
    assert world.aborts == []


# --- Redis ----------------------------------------------------------------------------------------------------------


class AwayStore(AlertStore):
    """A store whose server is away until it is said to be back."""

    def __init__(self, redis: Redis, *, can_load: bool) -> None:
        super().__init__(redis)
        self.away = True
        self._can_load = can_load

    async def load(self) -> tuple[list[Rule], list[Alert]]:
        if self.away and not self._can_load:
            raise RedisError("away")
        return await super().load()

    async def save(self, alerts: Mapping[str, Alert | None], event: Sequence[Event]) -> None:
        if self.away:
            raise RedisError("away")
        await super().save(alerts, event)


@pytest.mark.parametrize("can_load", [True, False])
async def test_with_redis_down_it_aborts_and_stores_that_afterwards(
    world: World, settings: Settings, http: httpx.AsyncClient, redis: Redis, can_load: bool
) -> None:
    store = AwayStore(redis, can_load=can_load)
    monitor = Monitor(world, settings, http, redis, store)
    await monitor.second()
    await monitor.until_aborted()
    assert [abort["release"] for abort in world.aborts] == ["notes-r9"]
    with pytest.raises(RedisError):
        await monitor.alerts.flush()
    store.away = False
    await monitor.alerts.flush()
    _, [kept] = await store.load()
    assert (kept.state, kept.abort) == (AlertState.FIRING, AbortState.CONFIRMED)
    assert [event.type for event in await appended_events(redis)] == ["alert.firing"]
    await monitor.alerts.flush()
    assert len(await appended_events(redis)) == 1


async def test_a_restarted_monitor_goes_on_with_an_abort_that_was_not_confirmed(
    world: World, settings: Settings, http: httpx.AsyncClient, redis: Redis
) -> None:
    world.instances["notes-r9-1"] = "failed"
    world.abort_answers = [503]
    before = Monitor(world, settings, http, redis)
    await before.second()
    await before.alerts.flush()
    after = Monitor(world, settings, http, redis)
    await after.second()
    await after.alerts.flush()
    assert [abort["release"] for abort in world.aborts] == ["notes-r9", "notes-r9"]
    assert after.alert("health:notes-r9").abort == AbortState.CONFIRMED
    assert [(event.type, event.app, event.id) for event in await appended_events(redis)] == [
        ("alert.firing", "notes", "health:notes-r9")
    ]


async def test_an_event_about_a_canarys_instance_acts_at_once(monitor: Monitor, world: World, redis: Redis) -> None:
    follower = monitor.follower(redis)
    for kind, instance in (("failed", "notes-r8-1"), ("ready", "notes-r9-1"), ("unhealthy", "notes-r9-1")):
        event = Event(type=f"instance.{kind}", app="notes", at=START, id=instance, reason=f"{instance} missed 3 probes")
        await events.append(redis, event)
    for _ in range(3):  # makes the group, looks for what was taken before, reads
        await follower.step(block_ms=1)
    await monitor.aborts.step()
    reasons = [(abort["release"], abort["reason"]) for abort in world.aborts]
    assert reasons == [("notes-r9", "health: notes-r9-1 missed 3 probes")]
    pending: Any = await redis.xpending(events.STREAM, "monitor")
    assert pending["pending"] == 0


async def test_an_event_with_nonsense_in_its_fields_stops_no_other(
    monitor: Monitor, world: World, redis: Redis
) -> None:
    follower = monitor.follower(redis)
    nonsense: dict[str, Any] = {"environment": [], "oom_killed": True, "memory_limit": "64m", "max_memory": None}
    for extra in (nonsense, {}):
        failed = {"type": "instance.failed", "app": "notes", "at": START, "id": "notes-r9-1", "reason": "exit code 3"}
        await events.append(redis, Event(**failed, **extra))
    for _ in range(3):
        await follower.step(block_ms=1)
    await monitor.aborts.step()
    assert [abort["release"] for abort in world.aborts] == ["notes-r9"]
    pending: Any = await redis.xpending(events.STREAM, "monitor")
    assert pending["pending"] == 0
