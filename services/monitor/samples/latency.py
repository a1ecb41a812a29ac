"""Latency histograms: quantiles in milliseconds, and a test for two shares. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from shared.proxy_models import LatencyHistogram


@dataclass(frozen=True)
class Buckets:
    """A cumulative latency histogram."""

    le_ms: tuple[float | None, ...]
    """Upper bounds of the buckets in milliseconds; the last is +Inf, written as None."""
    counts: tuple[int, ...]
    """`counts[i]` requests took at most `le_ms[i]` milliseconds."""

    @property
    def total(self) -> int:
        return self.counts[-1] if self.counts else 0


NOTHING = Buckets((), ())


def buckets_of(histogram: LatencyHistogram) -> Buckets:
    return Buckets(tuple(histogram.le_ms), tuple(histogram.counts))


def since(before: Buckets, now: Buckets) -> Buckets:
    """Returns the counts between two looks of one epoch. Other bounds than before mean that nothing had been counted
    then.
    """
    if before.le_ms != now.le_ms:
        return now
    return Buckets(now.le_ms, tuple(new - old for old, new in zip(before.counts, now.counts, strict=True)))


def quantile_ms(buckets: Buckets, share: float) -> float | None:
    """Returns the latency that `share` (0 to 1) of the requests did not exceed; None without requests.

    Requests count as evenly distributed within a bucket, the first bucket begins at 0, and what lies above the last
    bound counts as that bound. (After Prometheus, histogram_quantile.)
    """
    if buckets.total <= 0:
        return None
    rank = share * buckets.total
    low, below = 0.0, 0
    for bound, count in zip(buckets.le_ms, buckets.counts, strict=True):
        if bound is None:
            break
        if count >= rank and count > below:
            return round(low + (bound - low) * max(0.0, rank - below) / (count - below), 3)
        low, below = bound, count
    return round(low, 3)


def share_above(buckets: Buckets, limit_ms: float) -> float:
    """Returns the share of the requests (at least one) that took longer; they count as evenly distributed in a
    bucket.
    """
    low, below = 0.0, 0
    for bound, count in zip(buckets.le_ms, buckets.counts, strict=True):
        if bound is None:
            break
        if bound >= limit_ms:
            faster = below + (count - below) * (limit_ms - low) / (bound - low)
            return 1 - faster / buckets.total
        low, below = bound, count
    return 1 - below / buckets.total


def excess_z(share: float, of: int, other_share: float, other_of: int) -> float:
    """Returns by how many standard deviations the first share lies above the second, if both were draws of the same
    distribution (pooled two-proportion z-test). 0 where both are 0 or both are 1.
    """
    pooled = (share * of + other_share * other_of) / (of + other_of)
    deviation = math.sqrt(pooled * (1 - pooled) * (1 / of + 1 / other_of))
    return (share - other_share) / deviation if deviation else 0.0


def quantiles_ms(buckets: Buckets, shares: Sequence[float]) -> list[float | None]:
    return [quantile_ms(buckets, share) for share in shares]
