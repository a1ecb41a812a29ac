"""Counts latencies in buckets; the upper bound of each is 15 % above that of the one before. Pure."""

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
    """Counts latencies in a histogram. Allocates its buckets only with the first latency, since most apps have little
    traffic.
    """

    def __init__(self) -> None:
        self._counts: list[int] = []

    def add(self, latency_us: int, times: int = 1) -> None:
        """Counts the latency, given in microseconds, as that of `times` requests."""
        if not self._counts:
            self._counts = [0] * (len(BOUNDS_MS) + 1)
        self._counts[bisect_left(_BOUNDS_US, latency_us)] += times

    def histogram(self, *, always_bounds: bool = False) -> LatencyHistogram:
        """Returns the cumulative histogram. Before the first latency, it has a single empty bucket without an upper
        bound or, with `always_bounds`, all buckets, empty.
        """
        if not self._counts and not always_bounds:
            return LatencyHistogram(le_ms=[None], counts=[0])
        counts = self._counts or [0] * (len(BOUNDS_MS) + 1)
        # Without validation of the same 115 bounds each time, which all histograms share.
        return LatencyHistogram.model_construct(le_ms=_LE_MS, counts=list(accumulate(counts)))
