"""The monitor's loops against a deployer and a proxy that answer over HTTP, step by step, with a clock of their own."""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr, ValidationError
from redis.asyncio import Redis

from services.monitor.alert import AbortState, Alert, AlertState
from services.monitor.alert_book import AlertBook
from services.monitor.alert_store import AlertStore, MemoryAlertStore, RedisAlertStore
from services.monitor.config import Settings
from services.monitor.loops import Aborts, Follower, Sampler
from services.monitor.rule import Metric, Rule
from services.monitor.sample_book import SampleBook
from services.monitor.store import MemorySampleStore
from services.monitor.traffic_book import TrafficBook
from services.monitor.watch import Watch
from shared import events
from shared.events import EventFollower
from shared.http import ServiceClient
from shared.models import Event, ServiceRecord
from shared.registry import RedisRegistry
from shared.store import RedisError

pytestmark = pytest.mark.anyio

START = datetime(2026, 1, 1, tzinfo=UTC)


class NoRegistry(RedisRegistry):
    """Redis is away: services are called where the settings say."""

    def __init__(self) -> None:
        pass

    async def services(self) -> list[ServiceRecord]:
        raise RedisError("away")


@dataclass
class World:
    """What deployer and proxy answer. `down` names the services, or paths, that do not."""

    time: datetime = START
    down: set[str] = field(default_factory=set)
    release: str | None = "notes-r9"
    state: str | None = "progressing"
    epoch: str = "e1"
    canary: list[int] = field(default_factory=lambda: [0, 0])
    stable: list[int] = field(default_factory=lambda: [0, 0])
    others: dict[str, dict[str, str]] = field(default_factory=dict)  # app → its rollout
    instances: dict[str, str] = field(default_factory=lambda: {"notes-r9-1": "ready"})
    sampled: bool = True
    aborts: list[dict[str, str]] = field(default_factory=list)
    abort_answers: list[int] = field(default_factory=list)

    def answer(self, request: httpx.Request) -> httpx.Response:
        service = {3001: "deployer", 3004: "proxy"}[request.url.port or 0]
        if self.down & {service, request.url.path}:
            raise httpx.ReadTimeout("silent", request=request)
        match request.url.path:
            case "/stats":
                items = [self._stats(name) for name in self.instances] if self.sampled else []
                return httpx.Response(200, json={"items": items, "next": None})
            case "/registry":
                records = [self._record(name, state) for name, state in self.instances.items()]
                apps = {app: {"canary": records} for app in ("notes", *self.others)}
                return httpx.Response(200, json={"services": [], "instances": apps})
            case "/apps/notes/rollout":
                rollout = {"app": "notes", "release": self.release, "state": self.state, "reason": None}
                return httpx.Response(200, json=rollout)
            case "/apps/notes/traffic":
                return httpx.Response(200, json=self._traffic())
            case "/apps/notes/rollout/abort":
                return self._abort(json.loads(request.content))
        other = self.others.get(request.url.path.split("/")[2])
        return httpx.Response(200 if other else 404, json=other or {"detail": "no such path"})

    def _abort(self, body: dict[str, str]) -> httpx.Response:
        self.aborts.append(body)
        status = self.abort_answers.pop(0) if self.abort_answers else 200
        if status == 200 and body["release"] != self.release:
            status = 409
        if status == 200:
            self.state = "aborted"
        return httpx.Response(status, json={} if status == 200 else {"detail": "not so"})

    def _stats(self, name: str) -> dict[str, Any]:
        return {
            **{"id": name, "app": "notes", "environment": "canary", "release": name.rpartition("-")[0]},
            **{"state": "ready", "started_at": START.isoformat(), "memory_limit": 100, "working_set": 95},
            **{"cpu_seconds": 1.0, "restarts": 0, "oom_kills": 0, "min_memory": 64 * 2**20, "max_memory": 512 * 2**20},
        }

    def _record(self, name: str, state: str) -> dict[str, Any]:
        return {
            **{"id": name, "release": name.rpartition("-")[0], "commit": "0" * 40, "address": "127.0.0.1:1"},
            **{"state": state, "memory_limit": 100, "updated_at": START.isoformat()},
        }

    def _traffic(self) -> dict[str, Any]:
        def track(release: str | None, counts: list[int]) -> dict[str, Any]:
            latency = {"le_ms": [None], "counts": [counts[0]]}
            return {"release": release, "requests": counts[0], "errors": counts[1], "latency": latency}

        tracks = {"stable": track("notes-r8", self.stable), "canary": track(self.release, self.canary)}
        return {"epoch": self.epoch, "share_set": 0.33, "share_seen": None, "tracks": tracks}


class Monitor:
    """The service's parts, put together as main.py does, stepped by hand."""

    def __init__(self, world: World, settings: Settings, http: httpx.AsyncClient, store: AlertStore) -> None:
        self.world = world
        self.woken = 0
        self.alerts = AlertBook(store)
        self.samples = SampleBook(MemorySampleStore())
        self.traffic = TrafficBook(MemorySampleStore())
        deployer, proxy = (ServiceClient(name, settings, NoRegistry(), http) for name in ("deployer", "proxy"))
        self.sampler = Sampler(deployer, self.samples, self.clock)
        self.watch = Watch(deployer, proxy, self.samples, self.traffic, self.alerts, self.clock, self.wake)
        self.aborts = Aborts(proxy, self.alerts, self.clock)

    def clock(self) -> datetime:
        return self.world.time

    def wake(self) -> None:
        self.woken += 1

    async def second(self, canary: tuple[int, int] = (0, 0), stable: tuple[int, int] = (0, 0)) -> None:
        """A second in which these requests (all, with errors) are answered, then one step of each loop."""
        self.world.time += timedelta(seconds=1)
        for counts, more in ((self.world.canary, canary), (self.world.stable, stable)):
            counts[0] += more[0]
            counts[1] += more[1]
        await self.sampler.step()
        await self.watch.step()
        await self.aborts.step()

    def alert(self, name: str) -> Alert:
        return next(alert for alert in self.alerts.alerts() if alert.id == name)


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
def monitor(world: World, settings: Settings, http: httpx.AsyncClient) -> Monitor:
    return Monitor(world, settings, http, MemoryAlertStore())


async def test_a_canary_that_answers_500_is_aborted_and_it_is_said_why(monitor: Monitor, world: World) -> None:
    world.state, world.release = None, None
    await monitor.second()  # the canary's instance is there, its rollout not yet
    world.state, world.release = "progressing", "notes-r9"
    await monitor.second(canary=(41, 41), stable=(80, 0))
    assert world.aborts == [
        {"release": "notes-r9", "reason": "errors: answered 41 of 41 requests with 5xx in 1 s; stable 0 of 80"}
    ]
    assert monitor.woken == 1
    fired = monitor.alert("errors:notes-r9")
    assert (fired.state, fired.abort) == (AlertState.FIRING, AbortState.CONFIRMED)
    await monitor.second()
    gone = monitor.alert("errors:notes-r9")
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
    assert world.aborts == [{"release": "notes-r9", "reason": "health: instance notes-r9-1 is unhealthy"}] * 4
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
    assert monitor.sampler.silent == "deployer does not answer: ReadTimeout"
    assert world.aborts == []
    world.down = set()
    await monitor.second()
    assert monitor.sampler.silent is None
    assert world.aborts == []


async def test_time_without_answers_is_no_silence_of_an_instance(monitor: Monitor, world: World) -> None:
    await monitor.second()
    world.sampled = False
    for down in (set[str](), {"/stats"}, set[str]()):
        world.down = down
        for _ in range(6):
            await monitor.second()
    assert world.aborts == []


async def test_an_answer_that_makes_no_sense_does_not_keep_other_apps_from_being_watched(
    monitor: Monitor, world: World
) -> None:
    world.others = {"another": {"app": "another", "release": "another-r1", "state": "wobbling"}}
    with pytest.raises(ValidationError):
        await monitor.second()
    with pytest.raises(ValidationError):
        await monitor.second(canary=(30, 30))
    assert monitor.alert("errors:notes-r9").abort == AbortState.WANTED


async def test_with_the_deployer_down_a_known_canary_is_still_watched(monitor: Monitor, world: World) -> None:
    await monitor.second()
    world.down = {"deployer"}
    await monitor.second(canary=(30, 30))
    assert [abort["release"] for abort in world.aborts] == ["notes-r9"]


async def test_an_empty_registry_ends_no_watch(monitor: Monitor, world: World) -> None:
    await monitor.second()
    world.instances = {}
    await monitor.second(canary=(30, 30))
    assert [abort["release"] for abort in world.aborts] == ["notes-r9"]


async def test_a_silent_proxy_is_said(monitor: Monitor, world: World) -> None:
    await monitor.second()
    assert monitor.watch.proxy_silent is None
    world.down = {"proxy"}
    await monitor.second()
    assert monitor.watch.proxy_silent == "proxy does not answer: ReadTimeout"


async def test_a_rule_of_ones_own_fires_after_its_time_and_does_not_abort(monitor: Monitor, world: World) -> None:
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


class AwayStore(MemoryAlertStore):
    """A store whose server is away until it is said to be back."""

    def __init__(self, *, can_load: bool) -> None:
        super().__init__()
        self.away = True
        self._can_load = can_load

    async def load(self) -> tuple[list[Rule], list[Alert]]:
        if self.away and not self._can_load:
            raise RedisError("away")
        return await super().load()

    async def save(self, alerts: Mapping[str, Alert | None], told: Sequence[Event]) -> None:
        if self.away:
            raise RedisError("away")
        await super().save(alerts, told)


@pytest.mark.parametrize("can_load", [True, False])
async def test_with_redis_down_it_aborts_and_stores_that_afterwards(
    world: World, settings: Settings, http: httpx.AsyncClient, can_load: bool
) -> None:
    store = AwayStore(can_load=can_load)
    monitor = Monitor(world, settings, http, store)
    await monitor.second()
    await monitor.second(canary=(30, 30))
    assert [abort["release"] for abort in world.aborts] == ["notes-r9"]
    with pytest.raises(RedisError):
        await monitor.alerts.flush()
    store.away = False
    await monitor.alerts.flush()
    _, [kept] = await store.load()
    assert (kept.state, kept.abort) == (AlertState.FIRING, AbortState.CONFIRMED)
    assert [event.type for event in store.told] == ["alert.firing"]
    await monitor.alerts.flush()
    assert len(store.told) == 1


async def test_a_restarted_monitor_goes_on_with_an_abort_that_was_not_confirmed(
    world: World, settings: Settings, http: httpx.AsyncClient, redis: Redis
) -> None:
    world.instances["notes-r9-1"] = "failed"
    world.abort_answers = [503]
    before = Monitor(world, settings, http, RedisAlertStore(redis))
    await before.second()
    await before.alerts.flush()
    after = Monitor(world, settings, http, RedisAlertStore(redis))
    await after.second()
    await after.alerts.flush()
    assert [abort["release"] for abort in world.aborts] == ["notes-r9", "notes-r9"]
    assert after.alert("health:notes-r9").abort == AbortState.CONFIRMED
    entries: Any = await redis.xrange(events.STREAM)
    told = [Event.model_validate_json(fields["event"]) for _, fields in entries]
    assert [(event.type, event.app, event.id) for event in told] == [("alert.firing", "notes", "health:notes-r9")]


async def test_an_event_about_a_canarys_instance_acts_at_once(monitor: Monitor, world: World, redis: Redis) -> None:
    follower = Follower(EventFollower(redis, "monitor"), monitor.watch, monitor.samples)
    for kind, instance in (("failed", "notes-r8-1"), ("ready", "notes-r9-1"), ("unhealthy", "notes-r9-1")):
        event = Event(type=f"instance.{kind}", app="notes", at=START, id=instance, reason=f"{instance} missed 3 probes")
        await events.append(redis, event)
    for _ in range(3):  # makes the group, looks for what was taken before, reads
        await follower.step()
    await monitor.aborts.step()
    assert world.aborts == [{"release": "notes-r9", "reason": "health: notes-r9-1 missed 3 probes"}]
    pending: Any = await redis.xpending(events.STREAM, "monitor")
    assert pending["pending"] == 0
