"""Defines what harm of a canary counts, and how fast the evidence for it may grow."""

from dataclasses import dataclass
from typing import Literal

LaneName = Literal["errors", "gross errors", "outage", "client errors", "latency", "gross latency"]


@dataclass(frozen=True)
class LaneMargins:
    """Holds the margins of one lane. Shares and slow-downs are fractions: 0.005 is half a percentage point or 0.5 %."""

    handicap: float
    """Harm that the canary may do without any of it being held against it."""
    harm: float
    """Smallest measured harm that aborts. It exceeds the handicap, so that a harm just above the handicap aborts
    nothing however long it lasts."""
    growth: float
    """Largest factor by which the capital grows in `growth_s`. A burst of errors shorter than that proves nothing."""
    growth_s: float
    memory_s: float = 1200.0
    """Time in which, little by little, the capital is spread over the bets anew. Harm that begins late is found the
    sooner the shorter this is, and small harm the later (fixed share, Herbster and Warmuth 1998)."""


@dataclass(frozen=True)
class Margins:
    """Holds the margins of the canary analysis (decision 49)."""

    errors: LaneMargins = LaneMargins(handicap=0.001, harm=0.005, growth=10, growth_s=10)
    gross_errors: LaneMargins = LaneMargins(handicap=0.05, harm=0.05, growth=10, growth_s=2, memory_s=120)
    outage: LaneMargins = LaneMargins(handicap=0.5, harm=0.25, growth=10, growth_s=10)
    """The canary fails most of its requests, whether or not production has any to compare with. The handicap is a share
    of errors, not a difference."""
    client_errors: LaneMargins = LaneMargins(handicap=0.05, harm=0.1, growth=10, growth_s=30)
    """Answers with a status from 400 to 499. A visitor may cause them, so the margins are wide."""
    latency: LaneMargins = LaneMargins(handicap=0.03, harm=0.1, growth=5, growth_s=20)
    gross_latency: LaneMargins = LaneMargins(handicap=0.3, harm=0.3, growth=10, growth_s=2, memory_s=120)

    least_ms: float = 10.0
    """Smallest slow-down that counts, in ms. An app that answers in 1 ms takes 20 % more or less by where it runs, and
    no visitor notices."""

    certainty: float = 100.0
    """Capital at which a lane fails the canary: chance reaches it with a probability of at most 1 in 100."""
    visitors: int = 3
    """Visitors of the canary who must have had an error before errors fail it."""
    warm_up_s: float = 30.0
    """Time without latency after the canary's first request, and after an instance of it joins."""
    passes_below_errors: float = 0.02
    """Upper bound of additional errors with which a canary passes."""
    passes_below_latency: float = 0.25
    """Upper bound of the slow-down with which a canary passes."""
    passes_from: int = 100
    """Requests of the canary without which it does not pass."""
    doubt: float = 10.0
    """Capital of a lane from which on a canary does not pass, if the harm would abort it."""

    def of(self, lane: LaneName) -> LaneMargins:
        """Returns the margins of a lane."""
        found: LaneMargins = getattr(self, lane.replace(" ", "_"))
        return found
