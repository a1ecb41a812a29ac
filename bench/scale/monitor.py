"""Measures what the monitor's loops cost at 1, 10, 100 and 400 idle apps of one instance each.

The service's own parts run a minute of their clock as fast as they can. The deployer and the proxy are canned answers;
Redis is a real one, whose commands count those within scripts too. Exit 1 if the loops need more than 0.03 CPU seconds
a minute for each app, or a round that looks for a failing canary takes 100 ms.
"""

import asyncio
import contextlib
import gc
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

import httpx
from pydantic import SecretStr
from redis.asyncio import Redis

from bench.scale.redis_server import redis_server, use_of
from services.monitor.alerts.alert_state import ActiveAlerts
from services.monitor.alerts.alert_store import AlertStore
from services.monitor.alerts.analysis_store import AnalysisStore
from services.monitor.alerts.canary_analyses import CanaryAnalyses
from services.monitor.alerts.evaluator import Evaluator
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
from services.monitor.scaling.policy_store import PolicyStore
from services.monitor.scaling.scaling_loop import Scaling
from shared.events import EventFollower
from shared.http import ServiceClient
from shared.models import (
    Environment,
    InstanceRecord,
    InstanceState,
    InstanceStats,
    Page,
    Track,
)
from shared.proxy_models import AppTraffic, LatencyHistogram, RolloutState, RolloutView, TrackTraffic
from shared.registry import Registry, RegistryView
from shared.security.outgoing import AddressGuard
from shared.security.vault import Vault


def _vault() -> Vault:
    raise AssertionError("no app of the bench has headers")


APPS = (1, 10, 100, 400)
START = datetime(2026, 1, 1, tzinfo=UTC)
MIB = 2**20
WARM_UP_S, MEASURED_S = 300, 60
MOST_CPU_S = 0.03  # a minute and app
MOST_ROUND_MS = 100.0  # a canary is looked at every 0.5 s
ENVOYS_BOUNDS_MS: list[float | None] = [
    *(0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000, 300_000, 600_000),
    *(1_800_000, 3_600_000, None),
]
Step = Callable[[], Awaitable[None]]


@dataclass(frozen=True)
class MonitorRow:
    """Holds what was measured of the monitor with `apps` apps. CPU and commands are those of an idle minute."""

    apps: int
    cpu_s: float
    """CPU seconds of the monitor's loops in one minute."""
    parts_s: dict[str, float]
    """The same by loop."""
    commands: float
    """Redis commands a second."""
    redis_cpu_s: float
    """CPU seconds of Redis in one minute."""
    round_ms: float
    """Duration of a round that evaluates all apps; median."""
    canary_round_ms: float
    """Duration of a round that evaluates a canary, while all others are idle; median."""


class CannedPlatform:
    """Answers as the deployer and the proxy do, from texts that are made once."""

    def __init__(self, apps: int) -> None:
        self._apps = [f"app-{number:03}" for number in range(apps)]
        self.canary = False
        self._answers: dict[tuple[str, bool], bytes] = {}

    def answer(self, request: httpx.Request) -> httpx.Response:
        key = (request.url.path, self.canary)
        if key not in self._answers:
            made = self._made(request.url.path)
            self._answers[key] = made.model_dump_json().encode() if made is not None else b""
        status = 200 if self._answers[key] else 404
        return httpx.Response(status, content=self._answers[key] or b"{}", headers={"Content-Type": "application/json"})

    def _made(self, path: str) -> Page[Any] | RegistryView | None:
        if path == "/stats":
            return Page[InstanceStats](items=[self._stats(*each) for each in self._releases()])
        if path == "/registry":
            instances: dict[str, dict[Track, list[InstanceRecord]]] = {}
            for app, environment, release in self._releases():
                track = Track.CANARY if environment is Environment.CANARY else Track.STABLE
                instances.setdefault(app, {})[track] = [self._record(release)]
            return RegistryView(services=[], instances=instances)
        if path == "/traffic":
            return Page[AppTraffic](items=[self._traffic(app) for app in self._apps])
        return None

    def _releases(self) -> list[tuple[str, Environment, str]]:
        live = [(app, Environment.PRODUCTION, f"{app}-r1") for app in self._apps]
        return [*live, *([(self._apps[0], Environment.CANARY, f"{self._apps[0]}-r2")] if self.canary else [])]

    def _stats(self, app: str, environment: Environment, release: str) -> InstanceStats:
        return InstanceStats(
            id=f"{release}-1",
            app=app,
            environment=environment,
            release=release,
            state=InstanceState.READY,
            started_at=START,
            memory_limit=64 * MIB,
            working_set=30 * MIB,
            cpu_seconds=1.0,
            restarts=0,
            oom_kills=0,
            min_memory=64 * MIB,
            max_memory=512 * MIB,
        )

    def _record(self, release: str) -> InstanceRecord:
        return InstanceRecord(
            id=f"{release}-1",
            release=release,
            commit="0" * 40,
            address="127.0.0.1:40000",
            state=InstanceState.READY,
            memory_limit=64 * MIB,
            updated_at=START,
        )

    def _traffic(self, app: str) -> AppTraffic:
        canary = f"{app}-r2" if self.canary and app == self._apps[0] else None
        tracks = {Track.STABLE: _track(f"{app}-r1"), Track.CANARY: _track(canary)}
        rollout = RolloutView(app=app, release=canary, state=RolloutState.PROGRESSING if canary else None)
        return AppTraffic(app=app, rollout=rollout, epoch="1", share_set=0.33, share_seen=None, tracks=tracks)


def _track(release: str | None) -> TrackTraffic:
    counts = [min(1000, 40 * place) for place, _ in enumerate(ENVOYS_BOUNDS_MS)]
    return TrackTraffic(
        release=release, requests=1000, errors=0, latency=LatencyHistogram(le_ms=ENVOYS_BOUNDS_MS, counts=counts)
    )


class MonitorLoops:
    """The service's parts, put together as `services/monitor/main.py` does, on a clock that the benchmark moves."""

    def __init__(self, redis: Redis, http: httpx.AsyncClient, settings: Settings) -> None:
        self.time = START
        registry = Registry(redis)
        deployer, proxy = (ServiceClient(name, settings, registry, http) for name in ("deployer", "proxy"))
        store = SampleStore(redis)
        samples, traffic, alerts = SampleCache(store), TrafficCache(store), ActiveAlerts(AlertStore(redis))
        self.sampler = Sampler(deployer, samples, self.clock)
        inventory = Inventory(LiveReleases(LiveStore(redis)))
        figures = ProxyFigures(proxy, traffic, self.clock)
        client = CheckClient(AddressGuard())
        kept = evidence(EvidenceStore(redis), CheckStore(redis), client, _vault, lambda: figures.rollouts, self.clock)
        analyses = CanaryAnalyses(AnalysisStore(redis), self.clock, lambda: None, [kept.recorder.on_window])
        self.evaluator = Evaluator(deployer, figures, samples, inventory, alerts, analyses, self.clock, lambda: None)
        scaling = Scaling(deployer, samples, PolicyStore(redis), self.clock)
        aborts = Aborts(proxy, alerts, self.clock)
        removed = RemovedApps(
            *(samples, traffic, alerts, analyses, NotifierStore(redis), RetentionStore(redis)),
            scaling.forget,
            kept.forget,
        )
        follower = RegistryFollower(
            *(EventFollower(redis, "monitor"), self.evaluator, samples, scaling.killed),
            removed.on_event,
            kept.on_event,
            self.clock,
        )
        self.loops: list[tuple[str, int, Step]] = [  # name, every so many half seconds, step
            ("sampling", 4, self.sampler.step),
            ("watch", 1, self.evaluator.step),
            ("aborts", 2, aborts.step),
            ("events", 2, lambda: follower.step(block_ms=1)),
            ("storing alerts", 2, alerts.flush),
            ("storing samples", 2, samples.flush),
            ("storing traffic", 2, traffic.flush),
            ("scaling", 4, scaling.step),
        ]

    def clock(self) -> datetime:
        return self.time

    async def run(self, seconds: int, only: Sequence[str] = ()) -> dict[str, float]:
        """Runs the loops for so many seconds of their clock; returns the CPU seconds of each."""
        spent = dict.fromkeys((name for name, _, _ in self.loops), 0.0)
        for half_seconds in range(2 * seconds):
            self.time += timedelta(seconds=0.5)
            for name, every, step in self.loops:
                if half_seconds % every == 0 and (not only or name in only):
                    begun = time.process_time()
                    await step()
                    spent[name] += time.process_time() - begun
        return spent

    async def round_ms(self, every_s: float) -> float:
        """Returns the median duration of the evaluator's rounds, one each `every_s` seconds of the clock."""
        durations = []
        for _ in range(10):
            self.time += timedelta(seconds=every_s)
            begun = time.perf_counter()
            await self.evaluator.step()
            durations.append(1000 * (time.perf_counter() - begun))
        return median(durations)


async def measured(apps: int) -> MonitorRow:
    """Measures the loops at so many apps, after five minutes of samples."""
    platform = CannedPlatform(apps)
    async with contextlib.AsyncExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="slipway-bench-")))
        redis = await stack.enter_async_context(redis_server())
        http = await stack.enter_async_context(httpx.AsyncClient(transport=httpx.MockTransport(platform.answer)))
        loops = MonitorLoops(redis, http, Settings(home=home, token=SecretStr("token")))
        await loops.run(WARM_UP_S, only=["sampling", "storing samples"])
        await loops.run(12)
        gc.collect()
        before = await use_of(redis)
        parts = await loops.run(MEASURED_S)
        after = await use_of(redis)
        round_ms = await loops.round_ms(2.0)
        platform.canary = True
        await loops.run(4)
        return MonitorRow(
            apps=apps,
            cpu_s=sum(parts.values()),
            parts_s=parts,
            commands=(after.commands - before.commands) / MEASURED_S,
            redis_cpu_s=after.cpu_s - before.cpu_s,
            round_ms=round_ms,
            canary_round_ms=await loops.round_ms(0.5),
        )


def rows(apps: Sequence[int] = APPS) -> list[MonitorRow]:
    return [asyncio.run(measured(count)) for count in apps]


def main() -> int:
    measures = rows([int(argument) for argument in sys.argv[1:]] or APPS)
    print("an idle minute of the monitor's loops, CPU seconds; Redis commands a second; milliseconds of a round\n")
    names = list(measures[0].parts_s)
    print(
        f"{'apps':>5}{'CPU s':>8}{'commands':>10}{'Redis s':>9}{'round ms':>10}{'canary ms':>11}   {', '.join(names)}"
    )
    for row in measures:
        parts = "  ".join(f"{row.parts_s[name]:.2f}" for name in names)
        print(
            f"{row.apps:5}{row.cpu_s:8.2f}{row.commands:10.1f}{row.redis_cpu_s:9.2f}{row.round_ms:10.1f}"
            f"{row.canary_round_ms:11.1f}   {parts}"
        )
    first = measures[0]
    well = all(
        row.cpu_s <= first.cpu_s + MOST_CPU_S * row.apps and row.canary_round_ms <= MOST_ROUND_MS for row in measures
    )
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
