"""Computes error shares and latencies of a release over the last seconds, from the proxy's counters of production and
canary.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property

from pydantic import JsonValue

from services.monitor.rules.rule import Reading
from services.monitor.samples.latency import excess_z, share_above, since
from shared.models import Track
from shared.proxy_models import LatencyHistogram, TrackTraffic, TrafficView, quantile_ms

WINDOW = timedelta(seconds=10)
LATENCY_WINDOW = timedelta(seconds=30)
LONGEST = timedelta(minutes=5)
ENOUGH = 20  # requests; of fewer, one error is a large share
ENOUGH_ERRORS = 3
ENOUGH_TO_COMPARE = 100  # requests of each side; of fewer, a p95 depends on five answers
SLOWER_MS = 25.0  # smaller differences are not noticed by visitors, even if the ratio is large
LEAST_MS = 1.0
P95 = 0.95
SURE_Z = 3.5  # chance reaches this value once in 4 000 windows; ten minutes have 20 windows
TRACKS = frozenset(Track)
NOTHING = {
    track: TrackTraffic(release=None, requests=0, errors=0, latency=LatencyHistogram(le_ms=[], counts=[]))
    for track in Track
}
SILENT = Reading(None, "the proxy gave no traffic figures")


@dataclass(frozen=True)
class Point:
    """Holds the proxy's counters of an app's two tracks, production (`stable`) and canary, read at `at`."""

    at: datetime
    tracks: Mapping[Track, TrackTraffic]
    """Counters of all requests of visitors, by track."""
    compared: Mapping[Track, TrackTraffic]
    """Counters of the requests that the canary analysis compares; the same as `tracks` if the proxy does not count them
    apart.
    """

    def counts(self, track: Track, *, compared: bool) -> TrackTraffic:
        return (self.compared if compared else self.tracks)[track]


@dataclass(frozen=True)
class TrafficReading:
    """Holds the traffic of one track (production or canary) between two readings of the proxy's counters, which are
    `seconds` apart.
    """

    requests: int
    errors: int
    seconds: float
    timed: tuple[LatencyHistogram, LatencyHistogram]
    """The latency histograms of the two readings, the earlier one first."""

    @cached_property
    def latency(self) -> LatencyHistogram:
        return since(*self.timed)

    @property
    def too_few_errors(self) -> bool:
        """Returns True if there are one or two errors among fewer than 100 requests, too few to compute a share."""
        return 0 < self.errors < ENOUGH_ERRORS and self.requests < ENOUGH_TO_COMPARE

    def figures(self, track: Track) -> dict[str, JsonValue]:
        """Returns `<track>_requests`, `<track>_errors` and `seconds`, as evidence for an alert; the track is `stable`
        (production) or `canary`.
        """
        return {f"{track}_requests": self.requests, f"{track}_errors": self.errors, "seconds": round(self.seconds, 1)}


class Window:
    """Holds one app's traffic counters of the last 5 minutes, but none from before the proxy last began to count from 0
    (`epoch`).
    """

    def __init__(self) -> None:
        self._points: deque[Point] = deque()
        self._epoch: tuple[str, dict[Track, str | None], str | None] | None = None
        self._read_at: datetime | None = None

    def add(self, traffic: TrafficView, now: datetime) -> None:
        """Adds the counters that were read at `now`. Ignores them if one of the two tracks, production or canary, is
        missing.
        """
        if traffic.tracks.keys() != TRACKS:
            return
        judged = traffic.judged.release if traffic.judged else None
        epoch = (traffic.epoch, {track: figures.release for track, figures in traffic.tracks.items()}, judged)
        if self._epoch != epoch:
            # Without an earlier reading, the age of the epoch is unknown, so counting begins now.
            self._points = deque([Point(self._read_at, NOTHING, NOTHING)] if self._read_at else [])
            self._epoch = epoch
        self._points.append(Point(now, traffic.tracks, _compared(traffic)))
        while self._points[0].at < now - LONGEST:
            self._points.popleft()
        self._read_at = now

    def release(self, track: Track) -> str | None:
        """Returns the release that the last reading found on the track (production or canary); None without one."""
        return self._epoch[1].get(track) if self._epoch else None

    def canary_errors(self, release: str, now: datetime) -> Reading:
        """Returns the canary's share of failed requests over the last 10 s, or over the longer time in which it had 20
        requests. The value is 0 if production also has 20 requests, and its share is at least half as high or the
        difference may be chance. The value is None without a reading of the counters in the last 10 s, with fewer than
        20 requests of the canary, or with one or two errors among fewer than 100.
        """
        start = self._start(Track.CANARY, release, now, compared=True)
        if start is None:
            return SILENT
        canary, stable = self._both_since(start)
        description = f"{_answers(canary)}; stable {stable.errors} of {stable.requests}"
        evidence = canary.figures(Track.CANARY) | stable.figures(Track.STABLE)
        if canary.requests < ENOUGH:
            return Reading(None, f"{description}: fewer than {ENOUGH} requests", evidence)
        share = canary.errors / canary.requests
        if stable.requests >= ENOUGH and not _surely_worse(canary, stable):
            return Reading(0.0, description, evidence)
        return Reading(None if canary.too_few_errors else share, description, evidence)

    def stable_errors(self, release: str, now: datetime) -> Reading:
        """Returns production's share of failed requests over the last 10 s, or over the longer time in which it had 20
        requests. The value is None without a reading of the counters in the last 10 s, with fewer than 20 requests, or
        with one or two errors among fewer than 100.
        """
        start = self._start(Track.STABLE, release, now, compared=False)
        if start is None:
            return SILENT
        stable = self._traffic_since(Track.STABLE, start, compared=False)
        description, evidence = _answers(stable), stable.figures(Track.STABLE)
        if stable.requests < ENOUGH:
            return Reading(None, f"{description}: fewer than {ENOUGH} requests", evidence)
        return Reading(None if stable.too_few_errors else stable.errors / stable.requests, description, evidence)

    def slowness(self, release: str, now: datetime) -> Reading:
        """Returns the canary's p95 latency as a multiple of production's, over the last 30 s. The value is 1 if the
        canary is less than 25 ms slower, or if the difference may be chance: if about one answer in twenty is slow, p95
        varies widely by itself. The value is None if the canary or production had fewer than 100 requests.
        """
        start = self._latency_start(Track.CANARY, release, now)
        if start is None:
            return SILENT
        canary, stable = self._both_since(start)
        if min(canary.latency.total, stable.latency.total) < ENOUGH_TO_COMPARE:
            return Reading(None, f"fewer than {ENOUGH_TO_COMPARE} requests were timed on each side")
        canary_p95, stable_p95 = quantile_ms(canary.latency, P95) or 0.0, quantile_ms(stable.latency, P95) or 0.0
        description = (
            f"its p95 is {canary_p95:.0f} ms of {canary.latency.total} requests in {canary.seconds:.0f} s; "
            f"stable's {stable_p95:.0f} ms of {stable.latency.total}"
        )
        evidence: dict[str, JsonValue] = {
            **{"canary_p95_ms": canary_p95, "canary_requests": canary.latency.total},
            **{"stable_p95_ms": stable_p95, "stable_requests": stable.latency.total},
            "seconds": round(canary.seconds, 1),
        }
        is_slower = canary_p95 - stable_p95 >= SLOWER_MS and _surely_slower(canary.latency, stable.latency, stable_p95)
        return Reading(canary_p95 / max(stable_p95, LEAST_MS) if is_slower else 1.0, description, evidence)

    def p95_ms(self, track: Track, release: str, now: datetime, *, compared: bool) -> Reading:
        """Returns the release's p95 latency in milliseconds over the last 30 s; with `compared`, only of the requests
        that the canary analysis compares. The value is None with fewer than 20 requests.
        """
        start = self._latency_start(track, release, now)
        if start is None:
            return SILENT
        own = self._traffic_since(track, start, compared=compared)
        p95 = quantile_ms(own.latency, P95)
        if p95 is None or own.latency.total < ENOUGH:
            return Reading(None, f"fewer than {ENOUGH} requests were timed")
        description = f"its p95 is {p95:.0f} ms of {own.latency.total} requests in {own.seconds:.0f} s"
        return Reading(p95, description, {"requests": own.latency.total, "seconds": round(own.seconds, 1)})

    def _both_since(self, start: Point) -> tuple[TrafficReading, TrafficReading]:
        """Returns the canary's and production's traffic since `start`, of the requests that the canary analysis
        compares.
        """
        canary, stable = (self._traffic_since(each, start, compared=True) for each in (Track.CANARY, Track.STABLE))
        return canary, stable

    def _traffic_since(self, track: Track, start: Point, *, compared: bool) -> TrafficReading:
        last = self._points[-1]
        before, after = start.counts(track, compared=compared), last.counts(track, compared=compared)
        return TrafficReading(
            requests=after.requests - before.requests,
            errors=after.errors - before.errors,
            seconds=(last.at - start.at).total_seconds(),
            timed=(before.latency, after.latency),
        )

    def _start(self, track: Track, release: str, now: datetime, *, compared: bool) -> Point | None:
        """Returns the reading from which on errors are counted: that of 10 s ago, or an earlier one if the track has
        had fewer than 20 requests since. None if the track's release is another one, or the last reading is older than
        10 s.
        """
        if not self._is_about(track, release, now):
            return None
        last = self._points[-1].counts(track, compared=compared).requests
        if last - self._points[0].counts(track, compared=compared).requests < ENOUGH:
            return self._points[0]
        for point in reversed(self._points):
            if point.at <= now - WINDOW and last - point.counts(track, compared=compared).requests >= ENOUGH:
                return point
        return self._points[0]

    def _latency_start(self, track: Track, release: str, now: datetime) -> Point | None:
        if not self._is_about(track, release, now):
            return None
        begin = now - LATENCY_WINDOW
        return next((point for point in reversed(self._points) if point.at <= begin), self._points[0])

    def _is_about(self, track: Track, release: str, now: datetime) -> bool:
        """Returns True if the last reading is at most 10 s old and found this release on the track."""
        return self.release(track) == release and bool(self._points) and self._points[-1].at >= now - WINDOW


def _compared(traffic: TrafficView) -> Mapping[Track, TrackTraffic]:
    if traffic.judged is None:
        return traffic.tracks
    return {
        track: TrackTraffic(
            release=traffic.tracks[track].release,
            requests=counts.requests,
            errors=sum(counts.errors.values()),
            latency=counts.latency,
        )
        for track, counts in traffic.judged.tracks.items()
    }


def _surely_worse(canary: TrafficReading, stable: TrafficReading) -> bool:
    """Returns True if the canary's share of errors is more than twice production's (`stable`), and exceeds it by too
    much to be chance.
    """
    share, stable_share = canary.errors / canary.requests, stable.errors / stable.requests
    return share > 2 * stable_share and excess_z(share, canary.requests, stable_share, stable.requests) >= SURE_Z


def _surely_slower(canary: LatencyHistogram, stable: LatencyHistogram, stable_p95_ms: float) -> bool:
    """Returns True if more of the canary's answers are well above production's p95 latency than chance explains."""
    share, stable_share = (share_above(each, stable_p95_ms + SLOWER_MS / 2) for each in (canary, stable))
    return excess_z(share, canary.total, stable_share, stable.total) >= SURE_Z


def _answers(traffic: TrafficReading) -> str:
    return f"failed {traffic.errors} of {traffic.requests} requests in {traffic.seconds:.0f} s"
