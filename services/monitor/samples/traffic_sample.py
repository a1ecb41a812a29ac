"""Computes traffic samples of a release: requests, errors and latencies between two readings."""

from dataclasses import dataclass
from datetime import datetime

from pydantic import Field

from services.monitor.samples.downsampling import Rollup, Spread
from services.monitor.samples.latency import since
from shared.models import View
from shared.proxy_models import LatencyHistogram, TrackTraffic, quantile_ms


class TrafficSample(View):
    """Holds the traffic of a release since the previous sample. Latencies (`p50_ms` and so on) are in milliseconds,
    null if there were no requests. Envoy reports latencies a moment later than it counts requests.
    """

    at: datetime
    requests: int
    errors: int = Field(description="Answers with a status of 500 and above.")
    request_rate: float = Field(description="Requests per second.")
    error_rate: float = Field(description="Errors per second.")
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None

    def figures(self) -> dict[str, float | None]:
        """Returns name → rate or latency of the sample, for downsampling; None for a latency if there were no
        requests.
        """
        return self.model_dump(include={"request_rate", "error_rate", "p50_ms", "p95_ms", "p99_ms"})

    def sums(self) -> dict[str, int]:
        return {"requests": self.requests, "errors": self.errors}


class ReleaseSample(View):
    """Holds a traffic sample with the release that it belongs to."""

    release: str
    sample: TrafficSample


class TrafficItem(TrafficSample):
    """Response item of `GET /releases/{id}/samples`: all requests and errors of a time step, with its highest rates and
    latencies. `spread` holds name → minimum, mean and last value; null if the time step has only one sample.
    """

    spread: dict[str, Spread] | None = None


@dataclass(frozen=True)
class Counted:
    """Holds the proxy's counters of one release at one time."""

    at: datetime
    epoch: str
    requests: int
    errors: int
    latency: LatencyHistogram


def counted(traffic: TrackTraffic, epoch: str, now: datetime) -> Counted:
    return Counted(now, epoch, traffic.requests, traffic.errors, traffic.latency)


def traffic_sample(before: Counted, after: Counted) -> TrafficSample:
    """Returns the traffic between two readings, whose `epoch` must be the same."""
    seconds = (after.at - before.at).total_seconds()
    requests, errors = after.requests - before.requests, after.errors - before.errors
    latency = None if before.latency is after.latency else since(before.latency, after.latency)
    p50_ms, p95_ms, p99_ms = (quantile_ms(latency, share) if latency else None for share in (0.5, 0.95, 0.99))
    return TrafficSample(
        at=after.at,
        requests=requests,
        errors=errors,
        request_rate=round(requests / seconds, 3),
        error_rate=round(errors / seconds, 3),
        p50_ms=p50_ms,
        p95_ms=p95_ms,
        p99_ms=p99_ms,
    )


def traffic_item_of(row: Rollup) -> TrafficItem:
    nothing = dict.fromkeys(("p50_ms", "p95_ms", "p99_ms"))
    highest = {name: spread.max for name, spread in row.figures.items()}
    spread = row.figures if row.count > 1 else None
    return TrafficItem.model_validate({"at": row.at, **nothing, **highest, **row.sums, "spread": spread})
