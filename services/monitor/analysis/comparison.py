"""Compares the canary with production within strata, which are short slices of time, so that what changes for both at
once is no difference between them. `sign` -1 takes a stratum away again that was added.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

NOTHING = 1e-9


@dataclass
class MantelHaenszel:
    """Adds up, over slices of time, by how much the canary's share of errors exceeds production's (Mantel and Haenszel
    1959, Greenland and Robins 1985).
    """

    above: float = 0.0
    weight: float = 0.0

    def add(self, canary: int, canary_of: int, stable: int, stable_of: int, sign: int = 1) -> None:
        if canary_of and stable_of:
            both = canary_of + stable_of
            self.above += sign * (canary * stable_of - stable * canary_of) / both
            self.weight += sign * canary_of * stable_of / both

    def difference(self) -> float | None:
        """Returns by how much the canary's share exceeds production's; None if they never had requests at the same
        time.
        """
        return self.above / self.weight if self.weight > NOTHING else None


@dataclass
class VanElteren:
    """Tests, over slices of time, whether the canary's latencies are higher than production's: van Elteren's test
    (1960), which is Wilcoxon's rank test of two samples, stratified.
    """

    score: float = 0.0
    variance: float = 0.0

    def add(self, canary: Sequence[int], stable: Sequence[int], sign: int = 1) -> None:
        """Adds a slice of time: the canary's and production's requests by latency bucket. Requests in one bucket are
        ties.
        """
        mine, others = sum(canary), sum(stable)
        both = mine + others
        if not mine or not others:
            return
        below, ranks, ties = 0, 0.0, 0
        for one, other in zip(canary, stable, strict=True):
            if here := one + other:
                ranks += one * (below + (here + 1) / 2)
                ties += here**3 - here
                below += here
        self.score += sign * (ranks - mine * (both + 1) / 2) / (both + 1)
        self.variance += sign * mine * others / 12 * (both + 1 - ties / (both * (both - 1))) / (both + 1) ** 2

    def z(self) -> float:
        """Returns by how many standard deviations the canary's latencies rank above what chance gives; below 0 is
        faster.
        """
        return self.score / math.sqrt(self.variance) if self.variance > NOTHING else 0.0


def binomial_tail(successes: int, of: int, chance: float) -> float:
    """Returns the probability of at least `successes` among `of` trials, each with the probability `chance`. Returns 1
    if `successes` is not above what is expected.
    """
    if successes <= of * chance or not 0 < chance < 1:
        return 1.0
    log_term = math.lgamma(of + 1) - math.lgamma(successes + 1) - math.lgamma(of - successes + 1)
    log_term += successes * math.log(chance) + (of - successes) * math.log1p(-chance)
    term, total, count = math.exp(log_term), 0.0, successes
    while term > total * 1e-12:
        total += term
        term *= (of - count) / (count + 1) * chance / (1 - chance)
        count += 1
    return total
