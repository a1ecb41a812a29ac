"""Computes the report of a load from the results of its requests. Pure."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise


@dataclass(frozen=True, slots=True)
class Result:
    """Holds the outcome of one request. Times are in seconds since the load's start."""

    due: float
    """Time at which the request was to be sent. Latency is counted from then, so it includes a delay in the client
    itself.
    """
    done: float
    quick: bool
    status: int = 0
    track: str = ""
    commit: str = ""
    lost: str = ""
    """Reason why the request counts as lost; empty if it does not."""


@dataclass
class Report:
    """Holds the figures of a load. Latencies are in ms, of successful quick requests only; None if there are none."""

    sent: int
    lost: int
    reasons: list[str]
    largest_gap_ms: float
    """Longest time without a completed successful quick request, from the start to the end of the measured time."""
    p50_ms: float | None
    p99_ms: float | None
    tracks: dict[str, int] = field(default_factory=dict)
    commits: dict[str, int] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """Returns the report as lines for a terminal."""
        latency = "none" if self.p50_ms is None else f"p50 {self.p50_ms:.1f} ms, p99 {self.p99_ms:.1f} ms"
        return [
            f"sent {self.sent}, lost {self.lost}, largest gap {self.largest_gap_ms:.0f} ms, latency {latency}",
            "tracks  " + ", ".join(f"{track or '-'} {count}" for track, count in self.tracks.items()),
            "commits " + ", ".join(f"{commit[:8] or '-'} {count}" for commit, count in self.commits.items()),
            *(f"lost: {reason}" for reason in self.reasons),
        ]


def report(results: Iterable[Result], since: float, until: float) -> Report:
    """Returns the report on the requests that were due from `since` until before `until`."""
    results = list(results)
    due = [result for result in results if since <= result.due < until]
    lost = sorted((result for result in due if result.lost), key=lambda result: result.due)
    quick = [result for result in results if result.quick and not result.lost]
    latencies = sorted((result.done - result.due) * 1000 for result in quick if since <= result.due < until)
    return Report(
        sent=len(due),
        lost=len(lost),
        reasons=_reasons(lost),
        largest_gap_ms=_largest_gap([result.done for result in quick], since, until) * 1000,
        p50_ms=percentile(latencies, 0.5),
        p99_ms=percentile(latencies, 0.99),
        tracks=dict(Counter(result.track for result in due).most_common()),
        commits=dict(Counter(result.commit for result in due if result.commit).most_common()),
    )


def percentile(ordered: Sequence[float], share: float) -> float | None:
    """Returns the value below which `share` (0 to 1) of the sorted values lie; None if there are no values."""
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else None


def _largest_gap(completions: Iterable[float], since: float, until: float) -> float:
    inside = sorted(moment for moment in completions if since <= moment <= until)
    return max(later - earlier for earlier, later in pairwise([since, *inside, until]))


def _reasons(lost: list[Result], most: int = 10) -> list[str]:
    """Returns at most `most` different reasons, earliest first, each with its number and the time of its first loss."""
    counts = Counter(result.lost for result in lost)
    first = {result.lost: result.due for result in reversed(lost)}
    return [f"{counts[why]} of: {why}, first after {first[why]:.2f} s" for why in sorted(first, key=first.__getitem__)][
        :most
    ]
