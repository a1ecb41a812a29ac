"""Holds the capital of a lane. A lane bets, in each window (a few seconds of requests), that the canary does a harm;
its capital, which begins at 1, is the evidence.

The expected factor by which a bet grows is at most 1 if the canary does no more harm than the lane's handicap. The
capital then reaches 100 with a probability of at most 1 %, at whatever time one looks (Ville's inequality).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from services.monitor.analysis.lanes.margins import LaneMargins

CASH = 0.2
"""Share of a lane's capital that bets on nothing, and so is never lost."""
MOST_RETURNED = 0.1
MOST = 10_000.0
"""Largest capital of a lane, its evidence for a harm. More would take long to lose again, and says nothing more."""
MOST_LOG = 300.0


@dataclass
class Lane:
    """Holds the capital of one lane, which is the evidence for one kind of harm. `held` is the capital by bet; its
    first item is cash, on which nothing is bet. The capital begins at 1.
    """

    held: list[float]
    capital: float
    allowance: float
    """Logarithm of the factor by which the capital may grow at this moment."""

    @classmethod
    def of(cls, bets: int, margins: LaneMargins) -> "Lane":
        return cls(held=[CASH, *[(1 - CASH) / bets] * bets], capital=1.0, allowance=math.log(margins.growth))

    def add(self, log_ratios: Sequence[float], seconds: float, margins: LaneMargins) -> None:
        """Applies to each bet the logarithm of the factor by which it grew in a window of `seconds`. Above 1, the
        capital grows no faster than `margins` allow, and the rest of the gain is lost; that makes the evidence smaller,
        never wrong. Below 1, it may come back to 1 at once.
        """
        returned = min(seconds / margins.memory_s, MOST_RETURNED)
        kept, invested = 1 - returned, returned * (1 - CASH) / len(log_ratios)
        held = [kept * self.held[0] + returned * CASH]
        for amount, ratio in zip(self.held[1:], log_ratios, strict=True):
            held.append((kept * amount + invested) * math.exp(ratio if ratio < MOST_LOG else MOST_LOG))
        total = sum(held)
        self.rest(seconds, margins)
        before = max(self.capital, 1.0)
        most = min(before * math.exp(self.allowance), MOST)
        if total > most:
            held = [amount * (most / total) for amount in held]
            total = most
        self.allowance -= math.log(max(total, 1.0) / before)
        self.held, self.capital = held, total

    def rest(self, seconds: float, margins: LaneMargins) -> None:
        """Lets a window of `seconds` pass without evidence. The capital stays; the growth that it is allowed next
        rises, up to that of `margins.growth_s` seconds, or of the window if it is longer.
        """
        limit = math.log(margins.growth)
        refill = limit * seconds / margins.growth_s
        self.allowance = min(self.allowance + refill, max(limit, refill))
