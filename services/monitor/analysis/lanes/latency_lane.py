"""Computes by which factor bets that a canary is slower than production grow or shrink in a window, which is a few
seconds of requests.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.monitor.analysis.lanes.histogram import Buckets, moved

HALF_LIFE_S = 300.0
TAILS = ((0.1, 2.5), (0.01, 5.0))
"""Bets on the slowest requests, as (share, odds): the canary's requests have 2.5 times the odds of being among the
slowest 10 % or so, or 5 times the odds of being among the slowest 1 %.
"""


@dataclass
class ReferenceHistogram:
    """Holds production's requests by latency bucket, of which older ones count less: half after 300 s. Bets on the
    canary's latency are made from it. If it is wrong, they win less, but do not win by chance more often.
    """

    counts: list[float]
    """Histogram up to the last call of `fold`."""
    pending: list[int]
    pending_s: float = 0.0

    @classmethod
    def empty(cls, buckets: int) -> "ReferenceHistogram":
        return cls([0.0] * buckets, [0] * buckets)

    def add(self, stable: Mapping[int, int], seconds: float) -> None:
        for bucket, count in stable.items():
            self.pending[bucket] += count
        self.pending_s += seconds

    def fold(self) -> None:
        """Adds what was counted since the last call to `counts`, in which older requests now count less."""
        decay = 0.5 ** (self.pending_s / HALF_LIFE_S)
        self.counts = [old * decay + new for old, new in zip(self.counts, self.pending, strict=True)]
        self.pending = [0] * len(self.counts)
        self.pending_s = 0.0


class LatencyBets:
    """Bets that the canary's requests are slower than production's. Each of `odds` is a bet that the odds of exceeding
    any latency are so many times production's (proportional odds, McCullagh 1980: a sequential Mann-Whitney test). Each
    of `tails`, (share, odds), is the same bet on about that share of the slowest requests only. `handicap` is the
    slow-down that is tolerated.
    """

    def __init__(
        self, buckets: Buckets, handicap: float, odds: Sequence[float], tails: Sequence[tuple[float, float]] = ()
    ) -> None:
        self._moves = buckets.moves(handicap)
        self._odds = list(odds)
        self._tails = list(tails)
        self._tables: list[tuple[list[float], list[float]]] = []

    def __len__(self) -> int:
        return len(self._odds) + len(self._tails)

    def prepare(self, reference: Sequence[float], share: float) -> None:
        """Makes the bets for the next windows. `reference` holds production's requests by latency bucket until now, and
        `share` is the canary's share of all requests, 0 to 1.
        """
        slowed = moved(reference, self._moves)
        total = sum(slowed) or 1.0
        above, left = [], 1.0  # share of the requests that are in this bucket or above
        for count in slowed:
            above.append(max(left, 0.0))
            left -= count / total
        above.append(0.0)
        ratios = [self._proportional(above, odds) for odds in self._odds]
        ratios += [self._tail(above, share_above, odds) for share_above, odds in self._tails]
        used = [bucket for bucket, count in enumerate(slowed) if count] or [0]
        self._tables = [self._table(each, share, used[0], used[-1]) for each in ratios]

    @staticmethod
    def _proportional(above: Sequence[float], odds: float) -> list[float]:
        weights = [1 + (odds - 1) * share for share in above]
        return [odds / (low * high) for low, high in itertools.pairwise(weights)]

    @staticmethod
    def _tail(above: Sequence[float], share: float, odds: float) -> list[float]:
        first = next(bucket for bucket, each in enumerate(above) if each <= share)
        mean = 1 + (odds - 1) * above[first]
        return [(odds if bucket >= first else 1.0) / mean for bucket in range(len(above) - 1)]

    @staticmethod
    def _table(ratios: list[float], share: float, first: int, last: int) -> tuple[list[float], list[float]]:
        """Returns, by bucket, the logarithm of the bet's factor for a request of the canary, and that of its mean over
        both tracks. Only the buckets from `first` to `last` are used: all before them have the same values, and so have
        all after them.
        """
        before, after = max(first - 1, 0), max(len(ratios) - last - 2, 0)
        part = ratios[before : len(ratios) - after]
        bets, means = [math.log(ratio) for ratio in part], [math.log(1 + share * (ratio - 1)) for ratio in part]
        return _widened(bets, before, after), _widened(means, before, after)

    def log_ratios(self, canary: Mapping[int, int], stable: Mapping[int, int]) -> list[float]:
        """Returns for each bet the logarithm of the factor by which it grows with these requests. `canary` and `stable`
        hold bucket → requests, for the buckets that are not empty.
        """
        both: dict[int, float] = dict(canary)
        for bucket, count in stable.items():
            for after, part in self._moves[bucket]:
                both[after] = both.get(after, 0.0) + part * count
        return [
            sum([bets[bucket] * count for bucket, count in canary.items()])
            - sum([means[bucket] * count for bucket, count in both.items()])
            for bets, means in self._tables
        ]


def _widened(part: list[float], before: int, after: int) -> list[float]:
    return [part[0]] * before + part + [part[-1]] * after
