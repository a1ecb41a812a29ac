"""Assembles the monitor from its parts, by the settings, and runs it."""

import contextlib
from collections.abc import AsyncIterator
from functools import cache, partial

import httpx
from fastapi import FastAPI

from services.monitor.alerts.alert_state import ActiveAlerts
from services.monitor.alerts.alert_store import AlertStore
from services.monitor.alerts.analysis_store import AnalysisStore
from services.monitor.alerts.canary_analyses import CanaryAnalyses
from services.monitor.alerts.evaluator import Evaluator
from services.monitor.alerts.outage_watch import OutageWatch
from services.monitor.alerts.platform_watch import PlatformWatch
from services.monitor.alerts.proxy_figures import ProxyFigures
from services.monitor.api.alerts import alerts_router
from services.monitor.api.analysis import analyses_router, own_checks_router
from services.monitor.api.notifications import deliveries_router, notifiers_router, silences_router
from services.monitor.api.page_views import MonitorPages
from services.monitor.api.pages import alerts_page, pages_router
from services.monitor.api.policies import policies_router
from services.monitor.api.samples import samples_router
from services.monitor.checks.check_client import CheckClient
from services.monitor.checks.check_store import CheckStore
from services.monitor.config import Settings
from services.monitor.dispatch.direct_messages import DirectMessages
from services.monitor.dispatch.outbox_store import GROUP, OutboxStore
from services.monitor.dispatch.wiring import notifications
from services.monitor.evidence.evidence_store import EvidenceStore
from services.monitor.evidence.wiring import evidence
from services.monitor.inventory.inventory import Inventory
from services.monitor.inventory.live_releases import LiveReleases
from services.monitor.inventory.live_store import LiveStore
from services.monitor.loops import Aborts, RegistryFollower, Retention, Sampler
from services.monitor.metrics import MonitorCollector
from services.monitor.notify.apprise_notifier import AppriseNotifier
from services.monitor.notify.notifier_store import NotifierStore
from services.monitor.progress.progress import Progress
from services.monitor.removed_apps import RemovedApps
from services.monitor.retention_store import RetentionStore
from services.monitor.samples.sample_cache import SampleCache
from services.monitor.samples.sample_store import SampleStore
from services.monitor.samples.traffic_cache import TrafficCache
from services.monitor.scaling.policy_store import PolicyStore
from services.monitor.scaling.scaling_input import EnvironmentKey, Kill
from services.monitor.scaling.scaling_loop import Scaling
from shared.clock import now
from shared.config import SERVICES, ServiceName
from shared.events import EventFollower
from shared.host.port_holder import taken_by
from shared.http import ServiceClient
from shared.registry import Registry
from shared.runtime.clock_store import ClockTrust
from shared.runtime.loops import Loop
from shared.security.outgoing import AddressGuard
from shared.security.vault import Vault
from shared.store import connect
from shared.web.app import configure_logging, create_app
from shared.web.server import serve

SAMPLE_S = 2.0
EVALUATE_S = 0.5
REPEAT_S = 1.0
RETENTION_S = 3600.0
PLATFORM_S = 10.0  # twice as often while there is a problem
DIRECT_S = 30.0  # a change of an alert wakes the loop


def build_app(settings: Settings) -> FastAPI:
    """Returns the service with all its parts. Nothing runs until the app's lifespan starts."""
    redis = connect(settings.redis_connection_url())
    registry = Registry(redis)
    http = httpx.AsyncClient()
    deployer = ServiceClient("deployer", settings, registry, http)
    proxy = ServiceClient("proxy", settings, registry, http)
    sample_store = SampleStore(redis)
    samples, traffic = SampleCache(sample_store), TrafficCache(sample_store)
    alerts, live = ActiveAlerts(AlertStore(redis)), LiveReleases(LiveStore(redis))
    guard = AddressGuard(settings.allow_addresses)
    key = (settings.secrets or settings.home) / "key"
    kept = evidence(
        EvidenceStore(redis),
        CheckStore(redis),
        CheckClient(guard),
        cache(lambda: Vault(key, "monitor:checks")),
        lambda: figures.rollouts,
        now,
    )
    analyses = CanaryAnalyses(
        AnalysisStore(redis), now, lambda: storing.wake(), [kept.recorder.on_window], kept.checks.failure
    )

    aborts = Loop("aborts", Aborts(proxy, alerts, now).step, every_s=REPEAT_S)

    async def store() -> None:
        await analyses.load_wanted()
        await alerts.flush()
        await analyses.flush()
        await live.flush()

    storing = Loop("storing alerts", store, every_s=REPEAT_S)

    def wake() -> None:
        aborts.wake()
        storing.wake()
        direct.wake()

    sampler = Sampler(deployer, samples, now)
    inventory = Inventory(live)
    figures = ProxyFigures(proxy, traffic, now)
    evaluator = Evaluator(deployer, figures, samples, inventory, alerts, analyses, now, wake)
    progress = Progress(proxy, lambda: figures.rollouts, analyses, kept.checks.gate_checks, now)
    outages = OutageWatch(deployer, inventory, live, evaluator, now)
    others: dict[ServiceName, ServiceClient] = {"deployer": deployer, "proxy": proxy}
    services = {each: others.get(each) or ServiceClient(each, settings, registry, http) for each in SERVICES}
    platform = PlatformWatch(services, alerts, partial(_port_holder, settings), now, wake)
    deliveries, silences = OutboxStore(redis), NotifierStore(redis)
    notifier = AppriseNotifier(guard, trusted=settings.notify.split())
    notified = notifications(deliveries, silences, notifier, settings, EventFollower(redis, GROUP), now)
    page = f"{settings.outside_url('monitor')}/alerts"
    direct = Loop(
        "direct messages",
        DirectMessages(alerts, notified.recipients, notifier, page, now).step,
        every_s=DIRECT_S,
        stale_s=3 * DIRECT_S,
    )

    pages, policies = MonitorPages(settings), PolicyStore(redis)
    scaling = Scaling(deployer, samples, policies, now)
    scaling_loop = Loop("scaling", scaling.step, every_s=SAMPLE_S)

    def on_kill(key: EnvironmentKey, kill: Kill) -> None:
        scaling.killed(key, kill)
        scaling_loop.wake()

    removed = RemovedApps(
        samples, traffic, alerts, analyses, silences, RetentionStore(redis), scaling.forget, kept.forget
    )
    follower = RegistryFollower(
        EventFollower(redis, "monitor"), evaluator, samples, on_kill, removed.on_event, kept.on_event, now
    )

    retention = Retention(deployer, samples, RetentionStore(redis), now, ClockTrust(redis, "monitor:clock").is_trusted)

    async def deployer_check() -> str | None:
        return sampler.problem

    async def proxy_check() -> str | None:
        return figures.problem

    @contextlib.asynccontextmanager
    async def resources() -> AsyncIterator[None]:
        async with redis, http, notified.outbox, kept:
            yield

    return create_app(
        "monitor",
        settings,
        registry,
        description="Samples, alerts, the abort of failing canaries, scaling of memory, and messages to people.",
        routers=[
            pages_router(pages, samples, sample_store, policies),
            samples_router(samples, sample_store),
            alerts_router(alerts, alerts_page(pages, alerts, silences, deliveries)),
            deliveries_router(deliveries),
            notifiers_router(notified.recipients, settings.outside_url("monitor")),
            silences_router(silences),
            policies_router(policies),
            analyses_router(kept.recorder, kept.checks, pages.analysis),
            own_checks_router(kept.checks, guard),
        ],
        loops=[
            Loop("sampling", sampler.step, every_s=SAMPLE_S),
            Loop("watch", evaluator.step, every_s=EVALUATE_S),
            aborts,
            Loop("progress", progress.step, every_s=REPEAT_S),
            Loop("outages", outages.step, every_s=SAMPLE_S),
            Loop("platform", platform.step, every_s=PLATFORM_S),
            direct,
            Loop("events", follower.step, every_s=0.0),
            storing,
            Loop("storing samples", samples.flush, every_s=REPEAT_S),
            Loop("storing traffic", traffic.flush, every_s=REPEAT_S),
            scaling_loop,
            Loop("retention", retention.step, every_s=RETENTION_S, stale_s=3 * RETENTION_S),
            *kept.loops,
            *notified.loops,
        ],
        checks={"deployer": deployer_check, "proxy": proxy_check},
        collectors=[MonitorCollector(samples, alerts, now), kept.collector],
        resources=resources,
    )


async def _port_holder(settings: Settings, service: ServiceName) -> str | None:
    """Returns a sentence that names the process which listens on the service's port, with the remedy, if that is not
    the service. Returns None if there is no such process, or if the services do not share one machine.
    """
    if settings.address:
        return None
    return await taken_by({f"SLIPWAY_{service.upper()}_PORT": settings.port(service)}, (f"services.{service}",))


def run() -> None:
    """Runs the service until it gets a signal to stop."""
    configure_logging()
    settings = Settings()
    serve(build_app(settings), settings, "monitor")
