"""Allows for visitors who send many requests. All requests of a visitor go to the same track (production or canary), so
they are not independent of each other. A visitor whose account is broken in both releases makes the track look broken;
one with much data makes it look slow.
"""

from dataclasses import dataclass, field

from services.monitor.analysis.comparison import binomial_tail
from services.monitor.analysis.lanes.margins import LaneName, Margins
from services.monitor.analysis.sections import Section
from shared.models import Track

OF_VISITORS: tuple[LaneName, ...] = ("errors", "gross errors", "outage")
MOST_HAVE_FAILED = 0.5
ALIKE = 0.1
"""Correlation that is assumed between the latencies of one visitor. However many requests a visitor sends, they count
for at most 1 / 0.1 = 10 independent ones.
"""
MOST_ALIKE = 10.0
ENOUGH = 10_000
"""Number of visitors from which on it is no longer measured how many requests each sends, because the proxy tells no
more of them apart.
"""


@dataclass
class VisitorCounter:
    """Adds up a counter of the proxy, which only grows but begins at 0 again when the proxy begins to count again."""

    last: int = 0
    total: int = 0

    def take(self, value: int) -> int:
        """Takes a new reading of the counter, and returns by how much it has grown."""
        grown = value - self.last if value >= self.last else value
        self.last = value
        self.total += grown
        return grown


@dataclass
class JudgedVisitors:
    """Counts the visitors of a rollout by track (`seen`), those who had an error (`failing`), and all requests."""

    seen: dict[Track, VisitorCounter] = field(default_factory=lambda: {track: VisitorCounter() for track in Track})
    failing: dict[Track, VisitorCounter] = field(default_factory=lambda: {track: VisitorCounter() for track in Track})
    requests: int = 0
    design_effect: float = 1.0
    """Number of requests that say as much about latency as one independent request."""

    def count(self, requests: int) -> None:
        """Adds the number of requests of a window, whose visitors were added before, and updates `design_effect`."""
        self.requests += requests
        visitors = sum(counter.total for counter in self.seen.values())
        if 0 < visitors < ENOUGH:
            each = max(self.requests / visitors, 1.0)
            self.design_effect = min(1 + ALIKE * (each - 1), MOST_ALIKE)

    def enough(self, lane: LaneName, margins: Margins, whole: Section, newest: Section) -> bool:
        """Returns True if enough visitors had errors to fail the canary by the kind of harm `lane`; always for latency
        and client errors, and if no visitors are known. At least 3 of the canary's visitors must have had an error,
        and, over the whole rollout or lately, more than chance explains if each visitor counts once. The latter is not
        required for an outage, or if most of production's visitors have had an error. If the canary has fewer than 3
        visitors, only an outage fails it, and only if all of them had errors.
        """
        visitors, failing = self.seen[Track.CANARY].total, self.failing[Track.CANARY].total
        if lane not in OF_VISITORS or not visitors:
            return True
        if failing < margins.visitors:
            return visitors < margins.visitors and lane == "outage" and failing >= visitors
        if self.failing[Track.STABLE].total > MOST_HAVE_FAILED * self.seen[Track.STABLE].total:
            return True
        return lane == "outage" or min(map(_chance, (whole, newest))) <= 1 / margins.certainty


def _chance(section: Section) -> float:
    """Returns the probability that, by chance, so many of the visitors who had errors are the canary's."""
    canary, stable = section.total.canary.failing, section.total.stable.failing
    both = canary + stable
    return binomial_tail(canary, both, section.tests.expected_failing / both) if both else 1.0
