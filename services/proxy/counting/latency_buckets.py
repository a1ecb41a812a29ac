"""Counts latencies in buckets, each of whose bounds is 15 % above the one before. Pure."""

from bisect import bisect_left
from itertools import accumulate

from shared.proxy_models import LatencyHistogram

RATIO = 1.15
SMALLEST_MS = 0.5
LARGEST_MS = 3_600_000


def _bounds_ms() -> list[float]:
    bounds = [SMALLEST_MS]
    while bounds[-1] < LARGEST_MS:
        bounds.append(float(f"{SMALLEST_MS * RATIO ** len(bounds):.4g}"))
    return bounds


BOUNDS_MS = _bounds_ms()
_LE_MS: list[float | None] = [*BOUNDS_MS, None]
_BOUNDS_US = [round(bound * 1000) for bound in BOUNDS_MS]


class LatencyBuckets:
    """Counts latencies. Without any it takes no memory for buckets."""

    def __init__(self) -> None:
        self._counts: list[int] = []

    def add(self, latency_us: int, times: int = 1) -> None:
        """Counts a latency, given in microseconds, as so many requests."""
        if not self._counts:
            self._counts = [0] * (len(BOUNDS_MS) + 1)
        self._counts[bisect_left(_BOUNDS_US, latency_us)] += times

    def histogram(self, *, always_bounds: bool = False) -> LatencyHistogram:
        """Returns the cumulative histogram. While there is no latency, it has the bound infinity alone, unless
        `always_bounds`.
        """
        if not self._counts and not always_bounds:
            return LatencyHistogram(le_ms=[None], counts=[0])
        counts = self._counts or [0] * (len(BOUNDS_MS) + 1)
        # Without validation of the same 115 bounds each time, which all histograms share.
        return LatencyHistogram.model_construct(le_ms=_LE_MS, counts=list(accumulate(counts)))
