"""What a load came to: pure arithmetic over the results of single requests."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise


@dataclass(frozen=True, slots=True)
class Result:
    """One request. Times in seconds after the load's start; `due` is when it was to be sent, so that a request that
    had to wait in the client counts its wait. `lost` says why it counts as lost, or is empty.
    """

    due: float
    done: float
    quick: bool
    status: int = 0
    track: str = ""
    commit: str = ""
    lost: str = ""


@dataclass
class Report:
    """`largest_gap_ms`: between two successful completions of quick requests that follow one another, edges of the
    measured time included. Latencies in ms, of the quick ones that succeeded; None if there is none.
    """

    sent: int
    lost: int
    reasons: list[str]
    largest_gap_ms: float
    p50_ms: float | None
    p99_ms: float | None
    tracks: dict[str, int] = field(default_factory=dict)
    commits: dict[str, int] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """For a terminal."""
        latency = "none" if self.p50_ms is None else f"p50 {self.p50_ms:.1f} ms, p99 {self.p99_ms:.1f} ms"
        return [
            f"sent {self.sent}, lost {self.lost}, largest gap {self.largest_gap_ms:.0f} ms, latency {latency}",
            "tracks  " + ", ".join(f"{track or '-'} {count}" for track, count in self.tracks.items()),
            "commits " + ", ".join(f"{commit[:8] or '-'} {count}" for commit, count in self.commits.items()),
            *(f"lost: {reason}" for reason in self.reasons),
        ]


def report(results: Iterable[Result], since: float, until: float) -> Report:
    """Of the requests that were due from `since` until before `until`; gaps of the completions in that time."""
    everything = list(results)
    due = [result for result in everything if since <= result.due < until]
    lost = sorted((result for result in due if result.lost), key=lambda result: result.due)
    quick = [result for result in everything if result.quick and not result.lost]
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
    """The figure that `share` of them lie below; None of none."""
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else None


def _largest_gap(completions: Iterable[float], since: float, until: float) -> float:
    inside = sorted(moment for moment in completions if since <= moment <= until)
    return max(later - earlier for earlier, later in pairwise([since, *inside, until]))


def _reasons(lost: list[Result], most: int = 10) -> list[str]:
    """How often each reason came, and when first; the earliest reasons first."""
    counts = Counter(result.lost for result in lost)
    first = {result.lost: result.due for result in reversed(lost)}
    return [f"{counts[why]} of: {why}, first after {first[why]:.2f} s" for why in sorted(first, key=first.__getitem__)][
        :most
    ]
