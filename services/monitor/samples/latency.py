"""Latencies counted in buckets → quantiles in milliseconds. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from shared.proxy_models import LatencyHistogram


@dataclass(frozen=True)
class Buckets:
    """`counts[i]`: requests of at most `le_ms[i]` milliseconds, cumulative; the last bound is +Inf, written as None."""

    le_ms: tuple[float | None, ...]
    counts: tuple[int, ...]

    @property
    def total(self) -> int:
        return self.counts[-1] if self.counts else 0


NOTHING = Buckets((), ())


def buckets_of(histogram: LatencyHistogram) -> Buckets:
    return Buckets(tuple(histogram.le_ms), tuple(histogram.counts))


def since(before: Buckets, now: Buckets) -> Buckets:
    """What was counted between two looks of one epoch. Other bounds than before: nothing had been counted then."""
    if before.le_ms != now.le_ms:
        return now
    return Buckets(now.le_ms, tuple(new - old for old, new in zip(before.counts, now.counts, strict=True)))


def quantile_ms(buckets: Buckets, share: float) -> float | None:
    """The latency that `share` (0 to 1) of the requests did not exceed; None without requests.

    Within a bucket they are taken to lie evenly, the first bucket begins at 0, and what lies above the last bound
    counts as that bound. (After Prometheus, histogram_quantile.)
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
    """Which share of the requests (at least one) took longer; within a bucket they are taken to lie evenly."""
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
    """By how many standard deviations the first share lies above the second, if both were draws of the same (the
    pooled two-proportion test). 0 where both are 0 or both are 1.
    """
    pooled = (share * of + other_share * other_of) / (of + other_of)
    deviation = math.sqrt(pooled * (1 - pooled) * (1 / of + 1 / other_of))
    return (share - other_share) / deviation if deviation else 0.0


def quantiles_ms(buckets: Buckets, shares: Sequence[float]) -> list[float | None]:
    return [quantile_ms(buckets, share) for share in shares]
