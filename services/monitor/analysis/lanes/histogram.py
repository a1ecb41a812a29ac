"""Computes quantiles of latency histograms, and a histogram as it would be if all requests were slower. Within a
bucket, requests count as spread evenly on a logarithmic scale.
"""

import functools
import itertools
import math
from collections.abc import Sequence

SHORTEST_MS = 0.001

Moves = Sequence[Sequence[tuple[int, float]]]


class Buckets:
    """Holds the lower and upper bounds of latency buckets, in ms. The first bucket, which begins at 0, counts as wide
    as the second one, as a ratio; the last one, which has no upper bound, counts as wide as the one before it.
    """

    def __init__(self, le_ms: Sequence[float | None]) -> None:
        """Takes the upper bounds in ms, ascending; the last one is None. Raises ValueError for anything else."""
        finite = [max(bound, SHORTEST_MS) for bound in le_ms if bound is not None]
        ascending = all(low < high for low, high in itertools.pairwise(finite))
        if len(finite) < 2 or len(finite) + 1 != len(le_ms) or le_ms[-1] is not None or not ascending:
            raise ValueError("the bounds of the latency buckets must ascend, and end with null")
        self.lows = [finite[0] ** 2 / finite[1], *finite]
        self.highs = [*finite, finite[-1] ** 2 / finite[-2]]

    def __len__(self) -> int:
        return len(self.highs)

    def quantile(self, counts: Sequence[float], share: float) -> float | None:
        """Returns the latency in ms that `share` of the requests did not exceed; None if there are no requests, or if
        `share` is not between 0 and 1.
        """
        bucket = self.bucket_of(counts, share)
        if bucket is None:
            return None
        inside = (share * sum(counts) - sum(counts[:bucket])) / counts[bucket]
        return float(self.lows[bucket] * (self.highs[bucket] / self.lows[bucket]) ** inside)

    def bucket_of(self, counts: Sequence[float], share: float) -> int | None:
        """Returns the index of the bucket that contains the quantile `share`; None if there are no requests, or if
        `share` is not between 0 and 1.
        """
        rank, below = share * sum(counts), 0.0
        if not 0 < share < 1:
            return None
        for bucket, count in enumerate(counts):
            below += count
            if count and below >= rank:
                return bucket
        return None

    def moves(self, slower: float) -> Moves:
        """Returns for each bucket where its requests would be if all took longer by the factor 1 + `slower`: pairs of a
        bucket and the share of the requests that it gets.
        """
        return _moves(tuple(self.lows), tuple(self.highs), slower)


@functools.lru_cache(maxsize=8)
def _moves(lows: tuple[float, ...], highs: tuple[float, ...], slower: float) -> Moves:
    by, top = math.log1p(slower), len(highs) - 1
    edges = [(math.log(low), math.log(high)) for low, high in zip(lows, highs, strict=True)]
    found = []
    for least, most in edges:
        shares = []
        for bucket, (low, high) in enumerate(edges):
            from_, to = max(least + by, low), most + by if bucket == top else min(most + by, high)
            if to > from_:
                shares.append((bucket, (to - from_) / (most - least)))
        found.append(tuple(shares))
    return tuple(found)


def moved(counts: Sequence[float], moves: Moves) -> list[float]:
    """Returns the histogram after its requests have moved to other buckets. `moves` holds, for each bucket, pairs of a
    bucket and the share of the requests that it gets.
    """
    after = [0.0] * len(counts)
    for count, shares in zip(counts, moves, strict=True):
        if count:
            for bucket, share in shares:
                after[bucket] += count * share
    return after
