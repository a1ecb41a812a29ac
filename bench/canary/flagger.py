"""Applies Flagger's rule to the canary's requests: success rate at least 99 %, p99 at most 500 ms, once an interval."""

from dataclasses import dataclass, field

from bench.canary.traffic import LE_MS
from services.monitor.analysis.window import TrackWindow

LEAST_SUCCESS = 0.99
MOST_P99_MS = 500.0
THRESHOLD = 5
"""Failed checks after which the canary is rolled back; they are added up, and never taken back."""


@dataclass
class Flagger:
    """Checks the canary once an interval. An interval without requests is no failed check here (with Flagger it is)."""

    interval_s: float
    failed_checks: int = 0
    requests: int = 0
    errors: int = 0
    latency: list[int] = field(default_factory=lambda: [0] * len(LE_MS))
    next_s: float = 0.0

    def __post_init__(self) -> None:
        self.next_s = self.interval_s

    @property
    def rolled_back(self) -> bool:
        return self.failed_checks >= THRESHOLD

    def add(self, at_s: float, canary: TrackWindow) -> None:
        self.requests += canary.requests
        self.errors += canary.errors
        self.latency = [old + new for old, new in zip(self.latency, canary.latency, strict=True)]
        if at_s >= self.next_s:
            self.failed_checks += self._fails()
            self.next_s += self.interval_s
            self.requests = self.errors = 0
            self.latency = [0] * len(LE_MS)

    def _fails(self) -> bool:
        if not self.requests:
            return False
        return 1 - self.errors / self.requests < LEAST_SUCCESS or self._p99_ms() > MOST_P99_MS

    def _p99_ms(self) -> float:
        """Returns the 99th percentile, interpolated within its bucket as Prometheus does it."""
        rank, low = 0.99 * sum(self.latency), 0.0
        for bound, count in zip(LE_MS, self.latency, strict=True):
            if bound is None:
                break
            if count and count >= rank:
                return low + (bound - low) * rank / count
            rank, low = rank - count, bound
        return low if sum(self.latency) else 0.0
