"""The monitor exports samples and open alerts to Prometheus."""

from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from redis.asyncio import Redis

from services.monitor.alerts.alert_state import ActiveAlerts
from services.monitor.alerts.alert_store import AlertStore
from services.monitor.metrics import MonitorCollector
from services.monitor.rules.rule import DEFAULTS, Reading
from services.monitor.samples.sample_cache import SampleCache
from services.monitor.samples.sample_store import SampleStore
from shared.models import Environment
from tests.unit.monitor.samples.test_sample import stats

AT = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def samples(redis: Redis) -> SampleCache:
    return SampleCache(SampleStore(redis))


@pytest.fixture
def alerts(redis: Redis) -> ActiveAlerts:
    return ActiveAlerts(AlertStore(redis))


def text(samples: SampleCache, alerts: ActiveAlerts) -> list[str]:
    registry = CollectorRegistry()
    registry.register(MonitorCollector(samples, alerts, lambda: AT + timedelta(seconds=3)))
    return [line for line in generate_latest(registry).decode().splitlines() if not line.startswith("#")]


def test_before_the_first_sample_there_is_none(samples: SampleCache, alerts: ActiveAlerts) -> None:
    assert text(samples, alerts) == []


def test_instances_have_cadvisors_names(samples: SampleCache, alerts: ActiveAlerts) -> None:
    samples.record([stats(oom_kills=2)], AT)
    labels = '{app="notes",environment="canary",instance="notes-r9-1",release="notes-r9"}'
    assert text(samples, alerts) == [
        f"container_memory_working_set_bytes{labels} 1.6777216e+07",
        f"container_spec_memory_limit_bytes{labels} 6.7108864e+07",
        f"container_cpu_usage_seconds_total{labels} 10.0",
        f"container_oom_events_total{labels} 2.0",
        f"container_start_time_seconds{labels} 1.7672256e+09",
        "slipway_sample_age_seconds 3.0",
    ]
    samples.missed()
    assert text(samples, alerts) == ["slipway_sample_age_seconds 3.0"]


def test_open_alerts_are_there_as_prometheus_has_them(samples: SampleCache, alerts: ActiveAlerts) -> None:
    for name, release in (("health", "notes-r9"), ("cpu", "notes-r8"), ("memory", "notes-r8")):
        environment = Environment.CANARY if release == "notes-r9" else Environment.PRODUCTION
        value = 0 if name == "memory" else 99
        alerts.apply("notes", environment, release, DEFAULTS[name], Reading(value, "why"), AT)
    alerts.apply("notes", Environment.CANARY, "notes-r7", DEFAULTS["health"], Reading(1, "why"), AT)
    alerts.apply("notes", Environment.CANARY, "notes-r7", DEFAULTS["health"], Reading(0, "fine"), AT)
    assert sorted(text(samples, alerts)) == [
        'ALERTS{alertname="cpu",alertstate="pending",app="notes",environment="production",release="notes-r8"} 1.0',
        'ALERTS{alertname="health",alertstate="firing",app="notes",environment="canary",release="notes-r9"} 1.0',
    ]
