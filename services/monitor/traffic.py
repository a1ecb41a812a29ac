"""How a canary answers beside stable: counters of the proxy, seen over a window."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from services.monitor.rule import Reading
from shared.models import Track, TrafficView

WINDOW = timedelta(seconds=10)
LONGEST = timedelta(minutes=5)
ENOUGH = 20  # requests; below, one unlucky answer is a large share


@dataclass(frozen=True)
class Point:
    """Counters at one look."""

    at: datetime
    requests: dict[Track, int]
    errors: dict[Track, int]


class Window:
    """The looks at one app's rollout. Counters are compared within one epoch only: a new one, or another canary
    release, begins again at 0.
    """

    def __init__(self) -> None:
        self._points: list[Point] = []
        self._of: tuple[str, str] | None = None
        self._looked_at: datetime | None = None

    def pause(self, now: datetime) -> None:
        """A look that found no rollout: what is counted later, happened after it."""
        self._points, self._of, self._looked_at = [], None, now

    def add(self, traffic: TrafficView, release: str, now: datetime) -> None:
        """A look at the traffic of `release`; figures of another canary release are not its own, and left out."""
        if traffic.tracks.keys() != set(Track) or traffic.tracks[Track.CANARY].release != release:
            return
        if self._of != (release, traffic.epoch):
            zero = dict.fromkeys(Track, 0)
            # Without an earlier look nobody knows how old the epoch is: then counting starts here.
            self._points = [Point(self._looked_at, zero, zero)] if self._looked_at else []
            self._of = (release, traffic.epoch)
        requests = {track: figures.requests for track, figures in traffic.tracks.items()}
        errors = {track: figures.errors for track, figures in traffic.tracks.items()}
        self._points.append(Point(now, requests, errors))
        self._points = [point for point in self._points if point.at >= now - LONGEST]
        self._looked_at = now

    def errors(self, now: datetime) -> Reading:
        """The canary's share of 5xx answers over the last 10 s, or as far back as it takes to see 20 requests.

        Where stable is at least half as bad, it is not the canary's fault: the share counts as 0. (Stable is an excuse
        only with 20 requests of its own.) No reading without a look within the last 10 s.
        """
        if not self._points or self._points[-1].at < now - WINDOW:
            return Reading(None, "the proxy gave no traffic figures")
        last, start = self._points[-1], self._start(now)
        seen = {track: last.requests[track] - start.requests[track] for track in Track}
        bad = {track: last.errors[track] - start.errors[track] for track in Track}
        figures = (
            f"answered {bad[Track.CANARY]} of {seen[Track.CANARY]} requests with 5xx in "
            f"{(last.at - start.at).total_seconds():.0f} s; stable {bad[Track.STABLE]} of {seen[Track.STABLE]}"
        )
        if seen[Track.CANARY] < ENOUGH:
            return Reading(None, f"{figures}: fewer than {ENOUGH} requests")
        share = bad[Track.CANARY] / seen[Track.CANARY]
        excuse = bad[Track.STABLE] / seen[Track.STABLE] if seen[Track.STABLE] >= ENOUGH else 0.0
        return Reading(0.0 if excuse >= share / 2 else share, figures)

    def _start(self, now: datetime) -> Point:
        last = self._points[-1].requests[Track.CANARY]
        for point in reversed(self._points):
            if point.at <= now - WINDOW and last - point.requests[Track.CANARY] >= ENOUGH:
                return point
        return self._points[0]
