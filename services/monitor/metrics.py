"""Exports samples and alerts to Prometheus, under the metric names of cAdvisor and Prometheus."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from services.monitor.alerts.alert_state import ActiveAlerts
from services.monitor.alerts.evaluator import Clock
from services.monitor.samples.sample_cache import SampleCache

INSTANCE = ["app", "environment", "release", "instance"]


class MonitorCollector(Collector):
    """Exports to Prometheus the pending and firing alerts, the age of the last sample, and the figures of instances
    (memory, CPU, OOM kills) from the deployer's last answer. While the deployer does not answer, exports no figures of
    instances.
    """

    def __init__(self, samples: SampleCache, alerts: ActiveAlerts, clock: Clock) -> None:
        self._samples = samples
        self._alerts = alerts
        self._clock = clock

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        working_set = GaugeMetricFamily(
            "container_memory_working_set_bytes", "Memory in use, without cache that can go.", labels=INSTANCE
        )
        limit = GaugeMetricFamily("container_spec_memory_limit_bytes", "Memory limit.", labels=INSTANCE)
        cpu = CounterMetricFamily("container_cpu_usage_seconds", "CPU time used since the start.", labels=INSTANCE)
        oom = CounterMetricFamily("container_oom_events", "OOM kills, those of predecessors too.", labels=INSTANCE)
        start = GaugeMetricFamily("container_start_time_seconds", "Start, since 1970.", labels=INSTANCE)
        for stats in self._samples.stats():
            labels = [stats.app, stats.environment, stats.release, stats.id]
            working_set.add_metric(labels, stats.working_set)
            limit.add_metric(labels, stats.memory_limit)
            cpu.add_metric(labels, stats.cpu_seconds)
            oom.add_metric(labels, stats.oom_kills)
            start.add_metric(labels, stats.started_at.timestamp())
        yield from (working_set, limit, cpu, oom, start)
        yield self._open_alerts()
        yield self._age()

    def _open_alerts(self) -> GaugeMetricFamily:
        labels = ["alertname", "alertstate", "app", "environment", "release"]
        family = GaugeMetricFamily("ALERTS", "1 for each alert that is pending or firing.", labels=labels)
        for alert in self._alerts.open_alerts():
            labels = [alert.rule, alert.state, alert.app, alert.environment or "", alert.release]
            family.add_metric(labels, 1)
        return family

    def _age(self) -> GaugeMetricFamily:
        family = GaugeMetricFamily("slipway_sample_age_seconds", "Age of the last sample; absent before the first.")
        if self._samples.sampled_at is not None:
            family.add_metric([], max(0.0, (self._clock() - self._samples.sampled_at).total_seconds()))
        return family
