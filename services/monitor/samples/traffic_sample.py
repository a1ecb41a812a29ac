"""Traffic samples of a release: requests, errors and latencies between two readings."""

from dataclasses import dataclass
from datetime import datetime

from services.monitor.samples.downsampling import Rollup, Spread
from services.monitor.samples.latency import since
from shared.latency import quantile_ms
from shared.models import View
from shared.proxy_models import LatencyHistogram, TrackTraffic


class TrafficSample(View):
    """`requests` and `errors` (answers of 500 and above) since the previous sample, also as rates per second. `p50_ms`
    and so on: latencies in milliseconds, null without requests (Envoy reports them a moment later than it counts
    requests).
    """

    at: datetime
    requests: int
    errors: int
    request_rate: float
    error_rate: float
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None

    def figures(self) -> dict[str, float | None]:
        """Returns the figures by name, for `downsampling`."""
        return self.model_dump(include={"request_rate", "error_rate", "p50_ms", "p95_ms", "p99_ms"})

    def sums(self) -> dict[str, int]:
        return {"requests": self.requests, "errors": self.errors}


class ReleaseSample(View):
    """A traffic sample with the release that it belongs to."""

    release: str
    sample: TrafficSample


class TrafficItem(TrafficSample):
    """All requests and errors of a step, its highest rates and latencies; `spread` has minimum, mean and last where the
    step holds more than one sample.
    """

    spread: dict[str, Spread] | None = None


@dataclass(frozen=True)
class Counted:
    """The counters of one release in one reading."""

    at: datetime
    epoch: str
    requests: int
    errors: int
    latency: LatencyHistogram


def counted(traffic: TrackTraffic, epoch: str, now: datetime) -> Counted:
    return Counted(now, epoch, traffic.requests, traffic.errors, traffic.latency)


def traffic_sample(before: Counted, after: Counted) -> TrafficSample:
    """Returns the sample at `after`; both readings are of one epoch, `before` is the earlier one."""
    seconds = (after.at - before.at).total_seconds()
    requests, errors = after.requests - before.requests, after.errors - before.errors
    latency = since(before.latency, after.latency)
    return TrafficSample(
        at=after.at,
        requests=requests,
        errors=errors,
        request_rate=round(requests / seconds, 3),
        error_rate=round(errors / seconds, 3),
        p50_ms=quantile_ms(latency, 0.5),
        p95_ms=quantile_ms(latency, 0.95),
        p99_ms=quantile_ms(latency, 0.99),
    )


def traffic_item_of(row: Rollup) -> TrafficItem:
    nothing = dict.fromkeys(("p50_ms", "p95_ms", "p99_ms"))
    highest = {name: spread.max for name, spread in row.figures.items()}
    spread = row.figures if row.count > 1 else None
    return TrafficItem.model_validate({"at": row.at, **nothing, **highest, **row.sums, "spread": spread})
