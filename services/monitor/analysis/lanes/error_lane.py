"""Computes what the bets of the lanes for errors win and lose in a window."""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

ENOUGH = 200
"""Requests from which on the canary's share of them is measured alone."""
LEAST_SHARE = 0.005
PRODUCTION_HALF_LIFE_S = 30.0
FORGOTTEN = 0.05  # requests; fewer, after decay, are none
NEARLY_ALL = 0.95
NO_BET = 0.9


@dataclass
class AssignedShare:
    """Measures the canary's share of requests over the newest windows of a step that hold 200 requests. Sticky visitors
    make it differ from the weight. What is missing to 200 requests counts as split by the weight.
    """

    step: int | None = None
    windows: deque[tuple[int, int]] = field(default_factory=deque)
    """Requests of the canary, and of both tracks."""
    canary: int = 0
    all: int = 0

    def add(self, step: int, weight: int, canary: int, stable: int) -> float:
        """Takes the requests of the newest window, and returns the share including them."""
        if step != self.step:
            self.step, self.canary, self.all = step, 0, 0
            self.windows.clear()
        if canary or stable:
            self.windows.append((canary, canary + stable))
            self.canary += canary
            self.all += canary + stable
            while self.all - self.windows[0][1] >= ENOUGH:
                old_canary, old_all = self.windows.popleft()
                self.canary -= old_canary
                self.all -= old_all
        missing = max(ENOUGH - self.all, 0)
        share = (self.canary + missing * weight / 100) / (self.all + missing)
        return min(max(share, LEAST_SHARE), 1 - LEAST_SHARE)


class ErrorBets:
    """Bets that an error is more likely the canary's than its share of requests says. `odds` are bets that the canary
    has so many times production's errors; they need no baseline. `pairs` are bets on production's and the canary's
    share of errors; where errors are many, each success of production says something, too.
    """

    def __init__(self, handicap: float, odds: Sequence[float], pairs: Sequence[tuple[float, float]] = ()) -> None:
        self._handicap = handicap
        self._odds = [(ratio, math.log(ratio)) for ratio in odds]
        self._pairs = list(pairs)

    def __len__(self) -> int:
        return len(self._odds) + len(self._pairs)

    def log_ratios(self, share: float, canary: int, canary_errors: int, stable: int, stable_errors: int) -> list[float]:
        """Returns the logarithm of each bet's factor. `share` is the canary's share of the requests; `canary` and
        `stable` count requests. The handicap counts as the share of production's successes that were errors.
        """
        found = []
        for ratio, log_ratio in self._odds:
            mean = 1 + share * (ratio - 1)
            log_mean = math.log(mean)
            success = math.log1p(-self._handicap * (1 - 1 / mean))
            won = canary_errors * (log_ratio - log_mean)
            found.append(won - stable_errors * log_mean + (stable - stable_errors) * success)
        for low, high in self._pairs:
            mean = share * high + (1 - share) * low
            error, success = low / mean, (1 - low) / (1 - mean)
            success = (1 - self._handicap) * success + self._handicap * error
            found.append(
                canary_errors * math.log(high / mean)
                + (canary - canary_errors) * math.log((1 - high) / (1 - mean))
                + stable_errors * math.log(error)
                + (stable - stable_errors) * math.log(success)
            )
        return found


@dataclass
class OutageBet:
    """Bets that the canary fails nearly all requests. It needs no requests of production. Where production fails, too,
    the canary has to fail more of them; where production fails nearly all, nothing is bet.
    """

    stable: float = 0.0
    """Production's requests, older ones counting less: half after 30 s."""
    stable_errors: float = 0.0

    def log_ratio(
        self, canary: int, canary_errors: int, stable: int, stable_errors: int, seconds: float, tolerated: float
    ) -> float:
        """Returns the logarithm of the bet's factor in a window of `seconds`. `tolerated` is the share of errors up to
        which it does not win if production has none.
        """
        decay = 0.5 ** (seconds / PRODUCTION_HALF_LIFE_S)
        self.stable = self.stable * decay + stable
        self.stable_errors = self.stable_errors * decay + stable_errors
        tolerated = max(tolerated, self.stable_errors / self.stable if self.stable > FORGOTTEN else 0.0)
        if tolerated >= NO_BET:
            return 0.0
        won = canary_errors * math.log(NEARLY_ALL / tolerated)
        return won + (canary - canary_errors) * math.log((1 - NEARLY_ALL) / (1 - tolerated))
