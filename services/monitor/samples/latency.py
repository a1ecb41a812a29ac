"""Compares latency histograms: requests between two readings, shares of slow requests, and a test of two shares.
Pure.
"""

import math

from shared.proxy_models import LatencyHistogram


def since(before: LatencyHistogram, now: LatencyHistogram) -> LatencyHistogram:
    """Returns the histogram of the requests between the readings `before` and `now`. If `before` has other bounds, it
    counts as empty.
    """
    if before.le_ms != now.le_ms:
        return now
    return LatencyHistogram(
        le_ms=now.le_ms, counts=[new - old for old, new in zip(before.counts, now.counts, strict=True)]
    )


def share_above(histogram: LatencyHistogram, limit_ms: float) -> float:
    """Returns the share of requests that were slower than `limit_ms`, interpolated within its bucket. The histogram
    must have at least one request.
    """
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
    """Returns by how many standard deviations `share` (of `of` requests) exceeds `other_share` (of `other_of`
    requests), if both are samples of one distribution (pooled two-proportion z-test). Returns 0 if both shares are 0 or
    both are 1.
    """
    pooled = (share * of + other_share * other_of) / (of + other_of)
    deviation = math.sqrt(pooled * (1 - pooled) * (1 / of + 1 / other_of))
    return (share - other_share) / deviation if deviation else 0.0
