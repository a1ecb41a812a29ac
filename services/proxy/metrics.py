"""Exports the traffic figures to Prometheus."""

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from services.proxy.control.control_plane import ControlPlane
from services.proxy.traffic import RequestCounts
from shared.errors import Unavailable


class TrafficCollector(Collector):
    """Exports each track's requests and errors. They are gauges, not counters, because they start at 0 again when Envoy
    restarts or the track gets another release.
    """

    def __init__(self, control: ControlPlane, counts: RequestCounts) -> None:
        self._control = control
        self._counts = counts

    def collect(self) -> Iterator[GaugeMetricFamily]:
        labels = ["app", "track", "release"]
        requests = GaugeMetricFamily("slipway_requests", "Requests answered in this epoch.", labels=labels)
        errors = GaugeMetricFamily(
            "slipway_errors", "Requests of this epoch with a status of 500 and above.", labels=labels
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
