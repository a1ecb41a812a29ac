"""Computes how large a harm may be: one-sided upper bounds with a confidence of 95 %."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from services.monitor.analysis.lanes.histogram import Buckets
from services.monitor.analysis.strata import PairSums

Z95 = 1.645
HEAPED = 0.7
"""Share of a track's requests in one bucket from which on nothing is known about where in the bucket they are."""


def agresti_caffo(canary: float, canary_of: float, stable: float, stable_of: float) -> float:
    """Returns the upper bound of the difference of two shares (Agresti and Caffo 2000)."""
    mine, others = canary_of + 2, stable_of + 2
    share, other = (canary + 1) / mine, (stable + 1) / others
    return share - other + Z95 * math.sqrt(share * (1 - share) / mine + other * (1 - other) / others)


@dataclass(frozen=True)
class ReweightedPair:
    """Holds both tracks' sums of the whole rollout. Production's are weighted as if they were spread over the steps as
    the canary's are, so that what changes from step to step for both is no difference between them. Steps in which
    one of them has no requests are left out. Production's counts are scaled to the number of requests that they are
    worth.
    """

    canary_of: float
    canary: float
    stable_of: float
    stable: float


def reweighted_shares(steps: Iterable[PairSums], client: bool = False) -> ReweightedPair | None:
    """Returns the errors (with `client`, the client errors) of the whole rollout; None if no step has requests of
    both tracks.
    """
    pairs = [pair for pair in steps if pair.canary.requests and pair.stable.requests]
    if not pairs:
        return None
    canary_of = sum(pair.canary.requests for pair in pairs)
    shares = [pair.canary.requests / canary_of for pair in pairs]
    worth = 1 / sum(share**2 / pair.stable.requests for share, pair in zip(shares, pairs, strict=True))
    mine = [pair.canary.client_errors if client else pair.canary.errors for pair in pairs]
    others = [pair.stable.client_errors if client else pair.stable.errors for pair in pairs]
    stable = sum(
        share * errors / pair.stable.requests for share, errors, pair in zip(shares, others, pairs, strict=True)
    )
    return ReweightedPair(canary_of, sum(mine), worth, stable * worth)


def share_bound(pair: ReweightedPair) -> float:
    return agresti_caffo(pair.canary, pair.canary_of, pair.stable, pair.stable_of)


@dataclass(frozen=True)
class ReweightedLatency:
    """Holds both tracks' latencies of the whole rollout, production's weighted as in `ReweightedPair`."""

    canary: Sequence[int]
    canary_of: int
    stable: Sequence[float]
    stable_of: float


def reweighted_latency(steps: Iterable[PairSums]) -> ReweightedLatency | None:
    """Returns the latencies of the whole rollout; None if no step has any of both tracks."""
    counted = [(sum(pair.canary.latency), sum(pair.stable.latency), pair) for pair in steps]
    pairs = [(mine, others, pair) for mine, others, pair in counted if mine and others]
    if not pairs:
        return None
    canary_of = sum(mine for mine, _, _ in pairs)
    worth = canary_of**2 / sum(mine**2 / others for mine, others, _ in pairs)
    canary = [sum(bucket) for bucket in zip(*(pair.canary.latency for _, _, pair in pairs), strict=True)]
    weights = [mine / others / canary_of * worth for mine, others, _ in pairs]
    stable = [
        sum(weight * count for weight, count in zip(weights, bucket, strict=True))
        for bucket in zip(*(pair.stable.latency for _, _, pair in pairs), strict=True)
    ]
    return ReweightedLatency(canary, canary_of, stable, worth)


def slow_down_bound(latency: ReweightedLatency, share: float, buckets: Buckets) -> float | None:
    """Returns the upper bound of the canary's slow-down at a quantile, 0.25 for 25 %; None if there are too few
    requests. Each track's quantile has Woodruff's interval (1952), and both are combined on the logarithmic scale
    (MOVER, Zou and Donner 2008).
    """
    spread = Z95 * math.sqrt(share * (1 - share))
    upper_share = share + spread / math.sqrt(latency.canary_of)
    lower_share = share - spread / math.sqrt(latency.stable_of)
    canary, upper = buckets.quantile(latency.canary, share), buckets.quantile(latency.canary, upper_share)
    stable, lower = buckets.quantile(latency.stable, share), buckets.quantile(latency.stable, lower_share)
    if canary is None or upper is None or stable is None or lower is None:
        return None
    bound = canary / stable * math.exp(math.hypot(math.log(upper / canary), math.log(stable / lower)))
    heap = max(max(latency.canary) / latency.canary_of, max(latency.stable) / latency.stable_of)
    first, last = buckets.bucket_of(latency.stable, lower_share), buckets.bucket_of(latency.canary, upper_share)
    if heap > HEAPED and first is not None and last is not None:
        bound = max(bound, buckets.highs[last] / buckets.lows[first])
    return bound - 1
