"""Computes by which factor bets that a canary has more errors than production grow or shrink in a window, which is a
few seconds of requests.
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

ENOUGH = 200
"""Number of requests from which on the canary's share of them is taken as measured."""
LEAST_SHARE = 0.005
PRODUCTION_HALF_LIFE_S = 30.0
FORGOTTEN = 0.05  # requests; fewer, after decay, are none
NEARLY_ALL = 0.95
NO_BET = 0.9


@dataclass
class AssignedShare:
    """Measures the canary's share of requests, over the newest 200 in the rollout's present step. It differs from the
    share that is set (`weight`), because visitors stay with the track that they got first. If there are fewer than 200
    requests, the missing ones count as split by the weight.
    """

    step: int | None = None
    windows: deque[tuple[int, int]] = field(default_factory=deque)
    """(Requests of the canary, requests of both tracks) of each of the newest windows."""
    canary: int = 0
    all: int = 0

    def add(self, step: int, weight: int, canary: int, stable: int) -> float:
        """Adds the requests of the newest window, and returns the canary's share including them, 0 to 1."""
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
    """Bets that the canary has more errors than its share of requests explains. Each of `odds` is a bet that the canary
    fails so many times as often as production. Each of `pairs` is a bet on production's share of errors and the
    canary's; where errors are many, the successes of production count for it, too. `handicap` is the difference that is
    tolerated.
    """

    def __init__(self, handicap: float, odds: Sequence[float], pairs: Sequence[tuple[float, float]] = ()) -> None:
        self._handicap = handicap
        self._odds = [(ratio, math.log(ratio)) for ratio in odds]
        self._pairs = list(pairs)

    def __len__(self) -> int:
        return len(self._odds) + len(self._pairs)

    def log_ratios(self, share: float, canary: int, canary_errors: int, stable: int, stable_errors: int) -> list[float]:
        """Returns for each bet the logarithm of the factor by which it grows with these requests. `share` is the
        canary's share of all requests, 0 to 1; `canary` and `stable` are numbers of requests. The handicap counts as
        the share of production's successes that were errors.
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
    """Bets that the canary fails nearly all requests. The bet needs no requests of production. Where production fails
    some, the canary has to fail more for the bet to win; where production fails nearly all, nothing is bet.
    """

    stable: float = 0.0
    """Production's requests, older ones counting less: half after 30 s."""
    stable_errors: float = 0.0

    def log_ratio(
        self, canary: int, canary_errors: int, stable: int, stable_errors: int, seconds: float, tolerated: float
    ) -> float:
        """Returns the logarithm of the factor by which the bet grows in a window of `seconds`. `tolerated` is the
        canary's share of errors up to which it does not grow if production has none.
        """
        decay = 0.5 ** (seconds / PRODUCTION_HALF_LIFE_S)
        self.stable = self.stable * decay + stable
        self.stable_errors = self.stable_errors * decay + stable_errors
        tolerated = max(tolerated, self.stable_errors / self.stable if self.stable > FORGOTTEN else 0.0)
        if tolerated >= NO_BET:
            return 0.0
        won = canary_errors * math.log(NEARLY_ALL / tolerated)
        return won + (canary - canary_errors) * math.log((1 - NEARLY_ALL) / (1 - tolerated))
