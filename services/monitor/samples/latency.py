"""Compares latency histograms: requests between two readings, shares of slow ones, a test of two shares. Pure."""

import math

from shared.proxy_models import LatencyHistogram


def since(before: LatencyHistogram, now: LatencyHistogram) -> LatencyHistogram:
    """Returns the histogram of the requests between two readings of a histogram that only grows. A `before` with other
    bounds counts as empty.
    """
    if before.le_ms != now.le_ms:
        return now
    return LatencyHistogram(
        le_ms=now.le_ms, counts=[new - old for old, new in zip(before.counts, now.counts, strict=True)]
    )


def share_above(histogram: LatencyHistogram, limit_ms: float) -> float:
    """Returns the share of requests (at least one) slower than `limit_ms`, interpolated within its bucket."""
    low, below = 0.0, 0
    for bound, count in zip(histogram.le_ms, histogram.counts, strict=True):
        if bound is None:
            break
        if bound >= limit_ms:
            faster = below + (count - below) * (limit_ms - low) / (bound - low)
            return 1 - faster / histogram.total
        low, below = bound, count
    return 1 - below / histogram.total


def excess_z(share: float, of: int, other_share: float, other_of: int) -> float:
    """Returns how many standard deviations `share` (of `of` requests) lies above `other_share` if both are samples of
    one distribution (pooled two-proportion z-test). 0 if both are 0 or both are 1.
    """
    pooled = (share * of + other_share * other_of) / (of + other_of)
    deviation = math.sqrt(pooled * (1 - pooled) * (1 / of + 1 / other_of))
    return (share - other_share) / deviation if deviation else 0.0
