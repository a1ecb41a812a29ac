"""A deployer and a proxy that answer as they are told, and the monitor beside them, with a clock of their own."""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import httpx
from redis.asyncio import Redis

from services.monitor.alerts.alert import Alert
from services.monitor.alerts.alert_state import ActiveAlerts
from services.monitor.alerts.alert_store import AlertStore
from services.monitor.alerts.analysis_store import AnalysisStore
from services.monitor.alerts.canary_analyses import CanaryAnalyses
from services.monitor.alerts.evaluator import Evaluator
from services.monitor.alerts.outage_watch import OutageWatch
from services.monitor.alerts.proxy_figures import ProxyFigures
from services.monitor.checks.check_client import CheckClient
from services.monitor.checks.check_store import CheckStore
from services.monitor.config import Settings
from services.monitor.evidence.evidence_store import EvidenceStore
from services.monitor.evidence.wiring import evidence
from services.monitor.inventory.inventory import Inventory
from services.monitor.inventory.live_releases import LiveReleases
from services.monitor.inventory.live_store import LiveStore
from services.monitor.loops import Aborts, RegistryFollower, Sampler
from services.monitor.notify.notifier_store import NotifierStore
from services.monitor.removed_apps import RemovedApps
from services.monitor.retention_store import RetentionStore
from services.monitor.samples.sample_cache import SampleCache
from services.monitor.samples.sample_store import SampleStore
from services.monitor.samples.traffic_cache import TrafficCache
from services.monitor.scaling.scaling_input import EnvironmentKey, Kill
from shared.events import STREAM, EventFollower
from shared.http import ServiceClient
from shared.models import Event, ServiceRecord
from shared.registry import Registry
from shared.security.outgoing import AddressGuard
from shared.security.vault import Vault
from shared.store import RedisError

START = datetime(2026, 1, 1, tzinfo=UTC)
LE_MS = [25, 50, 100, 250, 500, None]


async def appended_events(redis: Redis) -> list[Event]:
    """All events of the stream, oldest first."""
    entries: Any = await redis.xrange(STREAM)
    return [Event.model_validate_json(fields["event"]) for _, fields in entries]


class NoRegistry(Registry):
    """Redis is away: services are called where the settings say."""

    def __init__(self) -> None:
        pass

    async def services(self) -> list[ServiceRecord]:
        raise RedisError("away")


def production(release: str | None, **fields: Any) -> dict[str, Any]:
    """Returns what a deployer says of the production of notes; `release` is the live one."""
    live = release and {
        **{"id": release, "app": "notes", "environment": "production", "build": "notes-8", "commit": "0" * 40},
        **{"state": "live", "created_at": START.isoformat()},
    }
    return {"desired": {}, "state": "running", "problem": None, "release": live, "instances": [], **fields}


@dataclass
class World:
    """Answers in place of deployer and proxy. `down` names the services, or paths, that do not answer."""

    time: datetime = START
    down: set[str] = field(default_factory=set)
    release: str | None = "notes-r9"
    state: str | None = "progressing"
    epoch: str = "e1"
    canary: list[int] = field(default_factory=lambda: [0, 0])
    stable: list[int] = field(default_factory=lambda: [0, 0])
    others: dict[str, dict[str, Any]] = field(default_factory=dict)  # app → its rollout, and its traffic
    instances: dict[str, str] = field(default_factory=lambda: {"notes-r9-1": "ready"})
    production: dict[str, str] = field(default_factory=dict)  # instance → its state
    stable_release: str = "notes-r8"
    without_canary: list[str] = field(default_factory=list)  # further apps
    usage: dict[str, dict[str, Any]] = field(default_factory=dict)  # instance → what else its stats say
    slow_ms: dict[str, float] = field(default_factory=dict)  # track → latency of each of its requests
    sampled: bool = True
    judged: bool = True
    """False: the proxy does not tell which requests the canary analysis compares."""
    weight: int = 33
    step: int = 0
    opened_at: datetime = START
    probes: dict[str, dict[str, datetime]] = field(default_factory=dict)  # instance → its last probes
    changed: dict[str, tuple[str, datetime]] = field(default_factory=dict)
    """Instance → its state, and the time at which it got there; the first state lies a minute back."""
    rollout_in_traffic: bool = False  # as a proxy of today has it
    traffic_answer: dict[str, Any] | None = None  # instead of everybody's traffic
    aborts: list[dict[str, Any]] = field(default_factory=list)
    abort_answers: list[int] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    outside_answers: dict[str, tuple[int, Any]] = field(default_factory=dict)  # path → status and body
    called: list[httpx.Request] = field(default_factory=list)
    environment: dict[str, Any] = field(default_factory=lambda: production("notes-r8"))
    """Returns what the deployer says of the production of notes; empty: it knows none."""

    def answer(self, request: httpx.Request) -> httpx.Response:
        service = {3001: "deployer", 3004: "proxy"}[request.url.port or 0]
        self.asked.append(request.url.path)
        if self.down & {service, request.url.path}:
            raise httpx.ReadTimeout("silent", request=request)
        match request.url.path:
            case "/stats":
                running = {name: "canary" for name in self.instances} | {name: "production" for name in self.production}
                items = [self._stats(name, place) for name, place in running.items()] if self.sampled else []
                return httpx.Response(200, json={"items": items, "next": None})
            case "/registry":
                return httpx.Response(200, json=self._registry())
            case "/apps/notes/environments/production" if self.environment:
                return httpx.Response(200, json=self.environment)
            case "/apps/notes/rollout":
                return httpx.Response(200, json=self._rollout())
            case "/traffic":
                others = [{"app": app, **other} for app, other in self.others.items() if "tracks" in other]
                told = {"rollout": self._rollout()} if self.rollout_in_traffic else {}
                others += [{"app": app, **self._traffic()} for app in self.without_canary]
                items = [{"app": "notes", **told, **self._traffic()}, *others]
                return httpx.Response(200, json=self.traffic_answer or {"items": items, "next": None})
            case "/apps/notes/rollout/abort":
                return self._abort(json.loads(request.content))
        other = self.others.get(request.url.path.split("/")[2])
        return httpx.Response(200 if other else 404, json=other or {"detail": "no such path"})

    def outside(self, request: httpx.Request) -> httpx.Response:
        """Answers in place of the servers of own metrics and hooks."""
        self.called.append(request)
        status, body = self.outside_answers.get(request.url.path, (503, None))
        return httpx.Response(status, json=body)

    def _rollout(self) -> dict[str, Any]:
        opened = {"opened_at": self.opened_at.isoformat(), "step": self.step}
        return {"app": "notes", "release": self.release, "state": self.state, "reason": None, **opened}

    def _registry(self) -> dict[str, Any]:
        canary = [self._record(name, state) for name, state in self.instances.items()]
        stable = [self._record(name, state) for name, state in self.production.items()]
        tracks = {"canary": canary, "stable": stable}
        mine = {track: records for track, records in tracks.items() if records}
        quiet = {app: {"stable": [self._record(f"{app}-r1-1", "ready")]} for app in self.without_canary}
        instances = ({"notes": mine} if mine else {}) | {app: {"canary": canary} for app in self.others} | quiet
        probes = {name: {field: at.isoformat() for field, at in times.items()} for name, times in self.probes.items()}
        return {"services": [], "instances": instances, "probes": probes}

    def _abort(self, body: dict[str, Any]) -> httpx.Response:
        self.aborts.append(body)
        status = self.abort_answers.pop(0) if self.abort_answers else 200
        if status == 200 and body["release"] != self.release:
            status = 409
        if status == 200:
            self.state = "aborted"
        return httpx.Response(status, json={} if status == 200 else {"detail": "not so"})

    def _stats(self, name: str, environment: str) -> dict[str, Any]:
        return {
            **{"id": name, "app": "notes", "environment": environment, "release": name.rpartition("-")[0]},
            **{"state": "ready", "started_at": START.isoformat(), "memory_limit": 100, "working_set": 50},
            **{"cpu_seconds": 1.0, "restarts": 0, "oom_kills": 0, "min_memory": 50, "max_memory": 400},
        } | self.usage.get(name, {})

    def _record(self, name: str, state: str) -> dict[str, Any]:
        before = self.changed.setdefault(name, (state, START - timedelta(minutes=1)))
        if before[0] != state:
            self.changed[name] = state, self.time
        return {
            **{"id": name, "release": name.rpartition("-")[0], "commit": "0" * 40, "address": "127.0.0.1:1"},
            **{"state": state, "memory_limit": 100, "updated_at": self.changed[name][1].isoformat()},
        }

    def _traffic(self) -> dict[str, Any]:
        def track(name: str, release: str | None, counts: list[int]) -> dict[str, Any]:
            slow_ms = self.slow_ms.get(name, 5.0)
            timed = [counts[0] if bound is None or bound >= slow_ms else 0 for bound in LE_MS]
            latency = {"le_ms": LE_MS, "counts": timed}
            return {"release": release, "requests": counts[0], "errors": counts[1], "latency": latency}

        stable = track("stable", self.stable_release, self.stable)
        tracks = {"stable": stable, "canary": track("canary", self.release, self.canary)}
        view = {"epoch": self.epoch, "share_set": 0.33, "share_seen": None, "tracks": tracks}
        if not self.judged or self.release is None:
            return view
        compared = {
            name: {
                **{"requests": counts["requests"], "errors": {"status": counts["errors"]}},
                **{"latency": counts["latency"], "visitors": counts["requests"], "failing_visitors": counts["errors"]},
            }
            for name, counts in tracks.items()
        }
        judged = {"release": self.release, "weight": self.weight, "tracks": compared, "left_out": {"forced": 3}}
        return view | {"judged": judged}


class Monitor:
    """The service's parts, put together as main.py does, stepped by hand."""

    def __init__(
        self,
        world: World,
        settings: Settings,
        http: httpx.AsyncClient,
        redis: Redis,
        alert_store: AlertStore | None = None,
    ) -> None:
        self.world = world
        self.woken = 0
        self.kills: list[Kill] = []
        self.forgotten: list[EnvironmentKey] = []
        self.sample_store = SampleStore(redis)
        self.alerts = ActiveAlerts(alert_store or AlertStore(redis))
        self.samples = SampleCache(self.sample_store)
        self.traffic = TrafficCache(self.sample_store)
        deployer, proxy = (ServiceClient(name, settings, NoRegistry(), http) for name in ("deployer", "proxy"))
        self.sampler = Sampler(deployer, self.samples, self.clock)
        self.live = LiveReleases(LiveStore(redis))
        inventory = Inventory(self.live)
        self.figures = ProxyFigures(proxy, self.traffic, self.clock)
        self.evidence = evidence(
            EvidenceStore(redis),
            CheckStore(redis),
            CheckClient(AddressGuard("*"), inner=httpx.MockTransport(world.outside)),
            cache(lambda: Vault(settings.home / "key", "monitor:checks")),
            lambda: self.figures.rollouts,
            self.clock,
        )
        self.analyses = CanaryAnalyses(
            AnalysisStore(redis),
            self.clock,
            self.wake,
            [self.evidence.recorder.on_window],
            self.evidence.checks.failure,
        )
        self.evaluator = Evaluator(
            deployer, self.figures, self.samples, inventory, self.alerts, self.analyses, self.clock, self.wake
        )
        self.outages = OutageWatch(deployer, inventory, self.live, self.evaluator, self.clock)
        self.aborts = Aborts(proxy, self.alerts, self.clock)

    def clock(self) -> datetime:
        return self.world.time

    def wake(self) -> None:
        self.woken += 1

    def follower(self, redis: Redis) -> RegistryFollower:
        """OOM kills that it hands on are in `kills`."""
        events = EventFollower(redis, "monitor")
        return RegistryFollower(
            events,
            self.evaluator,
            self.samples,
            lambda place, kill: self.kills.append(kill),
            RemovedApps(
                self.samples,
                self.traffic,
                self.alerts,
                self.analyses,
                NotifierStore(redis),
                RetentionStore(redis),
                self.forgotten.append,
                self.evidence.forget,
            ).on_event,
            self.evidence.on_event,
            self.clock,
        )

    async def second(self, canary: tuple[int, int] = (0, 0), stable: tuple[int, int] = (0, 0)) -> None:
        """A second in which these requests (all, with errors) are answered, then one step of each loop."""
        self.world.time += timedelta(seconds=1)
        for counts, more in ((self.world.canary, canary), (self.world.stable, stable)):
            counts[0] += more[0]
            counts[1] += more[1]
        await self.sampler.step()
        await self.evaluator.step()
        await self.outages.step()
        await self.aborts.step()

    async def until_aborted(self, canary: tuple[int, int] = (30, 30), stable: tuple[int, int] = (60, 0)) -> int:
        """Lets such seconds pass until the proxy was asked for an abort; returns their number, which is at most 10."""
        for seconds in range(1, 11):
            await self.second(canary, stable)
            if self.world.aborts:
                return seconds
        raise AssertionError("nothing was aborted")

    def alert(self, name: str) -> Alert:
        return next(alert for alert in self.alerts.alerts() if alert.id == name)

    def states(self) -> dict[str, str]:
        """Alert → state."""
        return {alert.id: str(alert.state) for alert in self.alerts.alerts()}
