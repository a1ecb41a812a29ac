"""Defines which harm of a canary counts, and how fast the evidence for it may grow."""

from dataclasses import dataclass
from typing import Literal

LaneName = Literal["errors", "gross errors", "outage", "client errors", "latency", "gross latency"]


@dataclass(frozen=True)
class LaneMargins:
    """Holds the settings of one lane, the test for one kind of harm of a canary. A lane bets that the canary does the
    harm; the capital that it has won, 1 at first, is the evidence, and 100 counts as certain. Shares and slow-downs are
    fractions: 0.005 is half a percentage point or 0.5 %.
    """

    handicap: float
    """Harm that is tolerated: while the canary does no more of it, the capital does not grow on average."""
    harm: float
    """Smallest measured harm that aborts. Where it exceeds the handicap, harm just above the handicap aborts nothing,
    however long it lasts.
    """
    growth: float
    """Largest factor by which the capital, the evidence, grows in `growth_s` seconds. A burst of errors shorter than
    that proves nothing.
    """
    growth_s: float
    memory_s: float = 1200.0
    """Seconds in which, little by little, the capital is spread over the lane's bets anew. The shorter this is, the
    sooner harm is found that begins late, and the later small harm (fixed share, Herbster and Warmuth 1998).
    """


@dataclass(frozen=True)
class Margins:
    """Holds which harm of a canary counts: for each kind of harm, and for the verdict as a whole (decision 49)."""

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
    """Evidence (capital of a lane) at which the canary fails: chance reaches it with a probability of at most 1 in 100.
    """
    visitors: int = 3
    """Visitors of the canary who must have had an error before errors fail it."""
    warm_up_s: float = 30.0
    """Seconds for which latencies do not count after the canary's first request, and after an instance of it joins."""
    passes_below_errors: float = 0.02
    """Upper bound of how much the canary's share of errors may exceed production's with which it passes."""
    passes_below_latency: float = 0.25
    """Upper bound of the canary's slow-down with which it passes."""
    passes_from: int = 100
    """Number of requests that a canary needs to pass."""
    doubt: float = 10.0
    """Evidence (capital of a lane) from which on a canary does not pass, if the measured harm is large enough to abort.
    """

    def of(self, lane: LaneName) -> LaneMargins:
        """Returns the margins of the lane, which is the test for one kind of harm."""
        found: LaneMargins = getattr(self, lane.replace(" ", "_"))
        return found
