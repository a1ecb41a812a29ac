"""Makes points for charts from the requests of a rollout, with figures of production and canary, and merges points when
there are many. Pure.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest

from services.monitor.analysis.verdict import CanaryVerdict
from services.monitor.analysis.window import JudgedWindow
from shared.models import Track, View
from shared.proxy_models import LatencyHistogram, quantile_ms

POINT_S = 10
POINTS_MOST = 720
ERRORS, LATENCY = "errors", "latency"


class TrackPoint(View):
    """Holds one track's figures (production's or the canary's) in one interval. Latencies are null without requests."""

    requests: int = 0
    errors: int = 0
    p50_ms: float | None = None
    p99_ms: float | None = None


class SeriesPoint(View):
    """Holds the figures of both tracks in one interval, and what the analysis knew at its end. `at_s` is the interval's
    end, in seconds since the rollout was opened. `error_bound` and `latency_bound` say how much worse than production
    the canary may be, with a confidence of 95 %: in percentage points of errors, and in percent of slow-down; null if
    that is not known.
    """

    at_s: float
    seconds: float
    weight: int
    stable: TrackPoint
    canary: TrackPoint
    score: int = 50
    error_bound: float | None = None
    latency_bound: float | None = None


@dataclass
class _Open:
    """Adds up the requests of an interval that has not ended."""

    begun_s: float
    seconds: float = 0.0
    at_s: float = 0.0
    weight: int = 0
    counts: dict[Track, list[int]] = field(default_factory=lambda: {track: [0, 0] for track in Track})
    latency: dict[Track, list[int]] = field(default_factory=lambda: {track: [] for track in Track})
    verdict: CanaryVerdict | None = None

    def add(self, window: JudgedWindow, verdict: CanaryVerdict | None) -> None:
        self.seconds += window.seconds
        self.at_s, self.weight, self.verdict = window.at_s, window.weight, verdict
        for track, figures in window.tracks.items():
            self.counts[track][0] += figures.requests
            self.counts[track][1] += figures.errors
            self.latency[track] = [a + b for a, b in zip_longest(self.latency[track], figures.latency, fillvalue=0)]

    def point(self, le_ms: Sequence[float | None]) -> SeriesPoint:
        verdict = self.verdict
        return SeriesPoint(
            at_s=round(self.at_s, 1),
            seconds=round(self.seconds, 1),
            weight=self.weight,
            stable=self._track(Track.STABLE, le_ms),
            canary=self._track(Track.CANARY, le_ms),
            score=verdict.score if verdict else 50,
            error_bound=bound_of(verdict, ERRORS),
            latency_bound=bound_of(verdict, LATENCY),
        )

    def _track(self, track: Track, le_ms: Sequence[float | None]) -> TrackPoint:
        (requests, errors), counts = self.counts[track], self.latency[track]
        below = 0
        cumulative = [below := below + count for count in counts]
        histogram = LatencyHistogram(le_ms=list(le_ms), counts=cumulative)
        is_whole = len(cumulative) == len(le_ms)
        p50, p99 = (quantile_ms(histogram, share, 1) if is_whole else None for share in (0.5, 0.99))
        return TrackPoint(requests=requests, errors=errors, p50_ms=p50, p99_ms=p99)


class Series:
    """Holds the points of one rollout, each of `point_s` seconds. When there are more than 720 points, each two become
    one, so that the points of a rollout of any length take less than 100 kB.
    """

    def __init__(self, points: Iterable[SeriesPoint] = (), point_s: int = POINT_S) -> None:
        self._points = list(points)
        self._open: _Open | None = None
        self._le_ms: Sequence[float | None] = ()
        self.point_s = point_s

    def add(self, window: JudgedWindow, verdict: CanaryVerdict | None, le_ms: Sequence[float | None]) -> None:
        """Adds the requests of a window (a few seconds). `verdict` is the newest one; `le_ms` holds the upper bounds of
        the window's latency buckets.
        """
        begun_s = window.at_s - window.seconds
        if self._open and begun_s - self._open.begun_s >= self.point_s:
            self.close()
        if self._open is None:
            self._open = _Open(begun_s)
        self._le_ms = le_ms
        self._open.add(window, verdict)
        if self._open.seconds >= self.point_s:
            self.close()

    def close(self) -> None:
        """Ends the present interval, as at the end of the rollout."""
        if self._open is not None:
            self._points.append(self._open.point(self._le_ms))
            self._open = None
        if len(self._points) > POINTS_MOST:
            self._points, self.point_s = thinned(self._points), 2 * self.point_s

    def ended(self) -> list[SeriesPoint]:
        """Returns the points whose interval has ended, oldest first."""
        return list(self._points)

    def points(self) -> list[SeriesPoint]:
        """Returns all points, oldest first; the last one may still grow."""
        return [*self._points, *([self._open.point(self._le_ms)] if self._open else [])]

    def restore(self, earlier: Sequence[SeriesPoint], point_s: int) -> None:
        """Puts the points that an earlier process has stored before those of this one."""
        first_s = self._points[0].at_s if self._points else float("inf")
        self._points = [*(point for point in earlier if point.at_s < first_s), *self._points]
        self.point_s = max(self.point_s, point_s)
        while len(self._points) > POINTS_MOST:
            self._points, self.point_s = thinned(self._points), 2 * self.point_s


def thinned(points: Sequence[SeriesPoint]) -> list[SeriesPoint]:
    """Returns half as many points: each two successive ones become one, with the requests of both."""
    pairs = [(points[i], points[i + 1]) for i in range(0, len(points) - 1, 2)]
    return [_merged(*pair) for pair in pairs] + list(points[len(pairs) * 2 :])


def _merged(first: SeriesPoint, second: SeriesPoint) -> SeriesPoint:
    tracks = {each: _added(getattr(first, each), getattr(second, each)) for each in ("stable", "canary")}
    return second.model_copy(update={"seconds": round(first.seconds + second.seconds, 1), **tracks})


def _added(first: TrackPoint, second: TrackPoint) -> TrackPoint:
    """Returns the figures of two intervals together. The median is the mean of both, weighted by their requests; p99 is
    the higher one, since their histograms are not kept.
    """
    medians = [(each.p50_ms, each.requests) for each in (first, second) if each.p50_ms is not None]
    total = sum(requests for _, requests in medians)
    tails = [each.p99_ms for each in (first, second) if each.p99_ms is not None]
    return TrackPoint(
        requests=first.requests + second.requests,
        errors=first.errors + second.errors,
        p50_ms=round(sum(p50 * requests for p50, requests in medians) / total, 1) if total else None,
        p99_ms=max(tails, default=None),
    )


def bound_of(verdict: CanaryVerdict | None, harm: str) -> float | None:
    """Returns the verdict's upper bound (95 %) of the harm with the name `harm`; None if it has none."""
    bounds = [each.bound for each in verdict.harms if each.name == harm and each.bound is not None] if verdict else []
    return round(min(bounds), 3) if bounds else None


def packed(point: SeriesPoint) -> str:
    """Returns the point as a short JSON list, which begins with the point's time."""
    tracks = [[each.requests, each.errors, each.p50_ms, each.p99_ms] for each in (point.stable, point.canary)]
    own = [point.at_s, point.seconds, point.weight, point.score, point.error_bound, point.latency_bound]
    return json.dumps([*own, *tracks], separators=(",", ":"))


def unpacked(text: str) -> SeriesPoint:
    """Returns the point that `packed` has written. Raises ValueError for another text."""
    at_s, seconds, weight, score, error_bound, latency_bound, *tracks = json.loads(text)
    stable, canary = (
        TrackPoint(requests=requests, errors=errors, p50_ms=p50, p99_ms=p99) for requests, errors, p50, p99 in tracks
    )
    return SeriesPoint(
        **{"at_s": at_s, "seconds": seconds, "weight": weight, "score": score, "stable": stable, "canary": canary},
        error_bound=error_bound,
        latency_bound=latency_bound,
    )
