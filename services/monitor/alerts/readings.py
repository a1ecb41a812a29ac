"""Defines how each metric is computed that alert rules compare with thresholds. A new metric gets a line here."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from services.monitor.alerts.canary_analyses import CanaryAnalyses
from services.monitor.alerts.traffic_window import Window
from services.monitor.inventory.inventory import Inventory
from services.monitor.rules.rule import Metric, Reading
from services.monitor.samples.sample_cache import SampleCache
from shared.models import Environment, Track

Readings = dict[Metric, Callable[[], Reading]]
"""Metric → function that computes its present value for a release. Only the functions of metrics that a rule uses are
called.
"""


@dataclass(frozen=True)
class ReadingSources:
    """Holds what the metrics of one app are computed from: instances, samples of them, traffic and canary analyses."""

    inventory: Inventory
    samples: SampleCache
    window: Window
    """The app's recent traffic."""
    analyses: CanaryAnalyses
    now: datetime


def canary_readings(of: ReadingSources, app: str, release: str) -> Readings:
    """Returns metric → function that computes it for the release `release`, which is the app's canary. Analysis,
    errors, latency (but not `LATENCY_MS`) and health already compare the canary with production.
    """
    return {
        Metric.ANALYSIS: lambda: of.analyses.reading(app, release),
        Metric.ERROR_SHARE: lambda: of.window.canary_errors(release, of.now),
        Metric.LATENCY: lambda: of.window.slowness(release, of.now),
        Metric.LATENCY_MS: lambda: of.window.p95_ms(Track.CANARY, release, of.now, compared=True),
    } | _instance_readings(of, app, Environment.CANARY, release)


def production_readings(of: ReadingSources, app: str, release: str) -> Readings:
    """Returns metric → function that computes it for the release `release`, which is live in the app's production."""
    return {
        Metric.ERROR_SHARE: lambda: of.window.stable_errors(release, of.now),
        Metric.LATENCY_MS: lambda: of.window.p95_ms(Track.STABLE, release, of.now, compared=False),
    } | _instance_readings(of, app, Environment.PRODUCTION, release)


def compared_readings(of: ReadingSources, app: str, canary: str) -> Readings:
    """Returns metric → function that computes it for production's live release, over the same seconds as for the canary
    `canary`, so that a rule can compare both. Metrics that already compare a canary with production are missing. Empty
    if no live release is known.
    """
    release = of.inventory.live(app)
    if release is None:
        return {}
    readings = _instance_readings(of, app, Environment.PRODUCTION, release)
    del readings[Metric.HEALTH]
    return readings | {
        Metric.LATENCY_MS: lambda: of.window.p95_ms(Track.STABLE, release, of.now, compared=True),
        Metric.RESTARTS: lambda: of.samples.restarts(release, of.now, since=canary),
        Metric.MEMORY_AT_CAP: lambda: of.samples.memory_at_cap(release, of.now, beside=canary),
    }


def _instance_readings(of: ReadingSources, app: str, environment: Environment, release: str) -> Readings:
    """Returns metric → function, for the metrics that are measured at the release's instances."""
    ready = of.inventory.ready_instances(app, environment, release)
    unknown = Reading(None, "the deployer does not answer")
    return {
        Metric.HEALTH: lambda: of.inventory.health(app, environment, release, of.now),
        Metric.NO_SAMPLES: lambda: of.samples.silence(ready, of.now) if of.inventory.answers else unknown,
        Metric.RESTARTS: lambda: of.samples.restarts(release, of.now),
        Metric.CPU: lambda: of.samples.cpu(release),
        Metric.MEMORY: lambda: of.samples.memory(release),
        Metric.MEMORY_AT_CAP: lambda: of.samples.memory_at_cap(release, of.now),
    }
