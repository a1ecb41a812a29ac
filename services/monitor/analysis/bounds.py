"""Computes how much worse than production a canary may be: one-sided upper bounds with a confidence of 95 %."""

import math

from services.monitor.analysis.lanes.histogram import Buckets
from services.monitor.analysis.sections import ReweightedErrors, ReweightedLatency

Z95 = 1.645
HEAPED = 0.7
"""If more than this share of a track's requests is in one latency bucket, nothing is assumed about where in the bucket
they are.
"""


def agresti_caffo(canary: float, canary_of: float, stable: float, stable_of: float) -> float:
    """Returns the upper bound of the difference between the shares `canary / canary_of` and `stable / stable_of`
    (Agresti and Caffo 2000).
    """
    mine, others = canary_of + 2, stable_of + 2
    share, other = (canary + 1) / mine, (stable + 1) / others
    return share - other + Z95 * math.sqrt(share * (1 - share) / mine + other * (1 - other) / others)


def share_bound(errors: ReweightedErrors) -> float:
    return agresti_caffo(errors.canary, errors.canary_of, errors.stable, errors.stable_of)


def slow_down_bound(
    latency: ReweightedLatency, share: float, buckets: Buckets, design_effect: float = 1.0
) -> float | None:
    """Returns the upper bound of the canary's slow-down at the quantile `share`, 0.25 for 25 %; None if there are too
    few requests. `design_effect` is the number of requests that say as much as one independent request: those of one
    visitor are alike. Each track's quantile has Woodruff's interval (1952), and both are combined on the logarithmic
    scale (MOVER, Zou and Donner 2008).
    """
    spread = Z95 * math.sqrt(share * (1 - share) * design_effect)
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
