"""Exports each app's numbers of requests and errors as Prometheus metrics."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from services.proxy.control.control_plane import ControlPlane
from services.proxy.counting.request_counts import RequestCounts
from shared.errors import Unavailable


class TrafficCollector(Collector):
    """Exports the numbers of requests and errors of each app, for production and the canary. They are gauges, not
    counters, because they start at 0 again when production or the canary gets another release. Also exports how many
    lines of Envoy's access log could not be read.
    """

    def __init__(self, control: ControlPlane, counts: RequestCounts) -> None:
        self._control = control
        self._counts = counts

    def collect(self) -> Iterator[Metric]:
        labels = ["app", "track", "release"]
        requests = GaugeMetricFamily("slipway_requests", "Requests of visitors in this epoch.", labels=labels)
        errors = GaugeMetricFamily(
            "slipway_errors",
            "Requests of this epoch that failed, not counting those whose visitor left.",
            labels=labels,
        )
        try:
            routes = list(self._control.routes.values())
        except Unavailable:
            routes = []
        for route in routes:
            for track, figures in self._counts.view(route).tracks.items():
                values = [route.app, str(track), figures.release or ""]
                requests.add_metric(values, figures.requests)
                errors.add_metric(values, figures.errors)
        yield requests
        yield errors
        yield CounterMetricFamily(
            "slipway_access_log_unreadable_lines",
            "Lines of Envoy's access log that could not be read, so that their requests were not counted.",
            value=self._counts.unreadable,
        )
