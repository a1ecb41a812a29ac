"""Adds up the requests of the canary and of production over a rollout: in strata, which are slices of at least 20 s,
and by step. Its size does not grow with the length of the rollout.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from services.monitor.analysis.comparison import MantelHaenszel, VanElteren
from services.monitor.analysis.window import TrackWindow
from shared.models import Track

STRATUM_S = 20.0
MOST_CANARY = 50
"""Requests of the canary after which a stratum (slice of time) ends even if production has had none."""
RECENT = 6


@dataclass
class TrackSums:
    """Adds up the requests of one track (production or canary). `latency` counts them by latency bucket, except those
    in the canary's warm-up.
    """

    latency: list[int]
    requests: int = 0
    errors: int = 0
    client_errors: int = 0
    failing: int = 0
    """Visitors who had their first error in this time."""

    def count(self, track: TrackWindow, failing: int, latency: Mapping[int, int]) -> None:
        self.requests += track.requests
        self.errors += track.errors
        self.client_errors += track.client_errors
        self.failing += failing
        for bucket, count in latency.items():
            self.latency[bucket] += count

    def add(self, other: "TrackSums", sign: int = 1) -> None:
        self.requests += sign * other.requests
        self.errors += sign * other.errors
        self.client_errors += sign * other.client_errors
        self.failing += sign * other.failing
        self.latency = [one + sign * more for one, more in zip(self.latency, other.latency, strict=True)]


@dataclass
class PairSums:
    """Adds up the requests of both tracks, production (`stable`) and canary, over the same time."""

    canary: TrackSums
    stable: TrackSums

    @classmethod
    def total(cls, buckets: int, parts: Iterable["PairSums"] = ()) -> "PairSums":
        """Returns the sum of the parts, which stay as they are. `buckets` is the number of latency buckets."""
        total = cls(TrackSums([0] * buckets), TrackSums([0] * buckets))
        for part in parts:
            total.add(part)
        return total

    def add(self, other: "PairSums", sign: int = 1) -> None:
        self.canary.add(other.canary, sign)
        self.stable.add(other.stable, sign)


@dataclass
class Stratum(PairSums):
    """Adds up the requests of a slice of time, in which the canary is compared with production: at least 20 s of one
    step of the rollout, and more until both tracks have had requests.
    """

    step: int = 0
    began_s: float = 0.0
    expected_errors: float = 0.0
    """Errors that the canary would have if it had the same share of all errors as of all requests."""
    expected_failing: float = 0.0
    """Visitors with a first error that the canary would have if it had the same share of all of these as of all
    requests.
    """

    def ends(self, step: int, at_s: float) -> bool:
        """Returns True if requests from the time `at_s` on, in the rollout's step `step`, belong to the next slice."""
        enough = bool(self.canary.requests and self.stable.requests) or self.canary.requests >= MOST_CANARY
        return step != self.step or (enough and at_s - self.began_s >= STRATUM_S)

    @property
    def excess_errors(self) -> float:
        return self.canary.errors - self.expected_errors


@dataclass
class StratifiedTests:
    """Adds up over slices of time what the tests for harm, and the measures of its size, need."""

    errors: MantelHaenszel = field(default_factory=MantelHaenszel)
    client_errors: MantelHaenszel = field(default_factory=MantelHaenszel)
    ranks: VanElteren = field(default_factory=VanElteren)
    canary_errors: int = 0
    all_errors: int = 0
    expected_errors: float = 0.0
    expected_failing: float = 0.0

    def add(self, stratum: Stratum, sign: int = 1) -> None:
        canary, stable = stratum.canary, stratum.stable
        self.errors.add(canary.errors, canary.requests, stable.errors, stable.requests, sign)
        self.client_errors.add(canary.client_errors, canary.requests, stable.client_errors, stable.requests, sign)
        self.ranks.add(canary.latency, stable.latency, sign)
        self.canary_errors += sign * canary.errors
        self.all_errors += sign * (canary.errors + stable.errors)
        self.expected_errors += sign * stratum.expected_errors
        self.expected_failing += sign * stratum.expected_failing

    def copy(self) -> "StratifiedTests":
        return replace(
            self, errors=replace(self.errors), client_errors=replace(self.client_errors), ranks=replace(self.ranks)
        )


@dataclass
class Strata:
    """Adds up the requests of a rollout in strata, which are slices of at least 20 s. Keeps the slice that still grows
    (`open`), the newest six that have ended, the two in which the canary was worst, and sums of all by step.
    """

    buckets: int
    open: Stratum | None = None
    recent: deque[Stratum] = field(default_factory=deque)
    """The newest strata that have ended, at most six."""
    by_step: dict[int, PairSums] = field(default_factory=dict)
    tests: StratifiedTests = field(default_factory=StratifiedTests)
    most_errors: Stratum | None = None
    """The ended stratum in which the canary's errors exceeded the expected number most."""
    slowest: Stratum | None = None
    """The ended stratum in which the canary was slowest, compared with production."""
    slowest_score: float = 0.0

    def at(self, step: int, at_s: float) -> Stratum:
        """Returns the stratum (slice of time) to which requests from `at_s` on belong, in seconds since the rollout was
        opened. Begins a new one if the last one has ended.
        """
        if self.open is not None and self.open.ends(step, at_s):
            self._close(self.open)
            self.open = None
        if self.open is None:
            empty = PairSums.total(self.buckets)
            self.open = Stratum(empty.canary, empty.stable, step, at_s)
        return self.open

    def _close(self, stratum: Stratum) -> None:
        self.recent.append(stratum)
        if len(self.recent) > RECENT:
            self.recent.popleft()
        self.by_step.setdefault(stratum.step, PairSums.total(self.buckets)).add(stratum)
        before = self.tests.ranks.score
        self.tests.add(stratum)
        score = self.tests.ranks.score - before
        if score > self.slowest_score:
            self.slowest, self.slowest_score = stratum, score
        if stratum.excess_errors > (self.most_errors.excess_errors if self.most_errors else 0):
            self.most_errors = stratum

    def requests(self, track: Track) -> int:
        """Returns the number of the track's requests since the rollout was opened."""
        parts = [*self.by_step.values(), *([self.open] if self.open else [])]
        return sum((part.canary if track is Track.CANARY else part.stable).requests for part in parts)

    def worst_for_errors(self) -> Stratum | None:
        """Returns the stratum (slice of time) in which the canary's errors exceeded the expected number most; None if
        they never did.
        """
        found = [stratum for stratum in (self.most_errors, self.open) if stratum and stratum.excess_errors > 0]
        return max(found, key=lambda stratum: stratum.excess_errors, default=None)

    def worst_for_latency(self) -> Stratum | None:
        """Returns the stratum (slice of time) in which the canary was slowest, compared with production; None if it
        never was slower.
        """
        if self.open is not None:
            ranks = VanElteren()
            ranks.add(self.open.canary.latency, self.open.stable.latency)
            if ranks.score > self.slowest_score:
                return self.open
        return self.slowest
