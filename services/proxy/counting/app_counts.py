"""Counts the requests of one app, on both tracks (production and canary). Pure."""

from dataclasses import dataclass, field

from services.proxy.counting.hanging import HangWatch
from services.proxy.counting.judged_counts import JudgedCounts
from services.proxy.counting.latency_buckets import LatencyBuckets
from services.proxy.counting.log_line import FORCED, NOTHING, LogLine
from services.proxy.routes.route import Route
from shared.models import Track
from shared.proxy_models import LeftOut, RequestError, TrackTraffic, TrafficView

Releases = dict[Track, str | None]


def releases_of(route: Route) -> Releases:
    """Returns track (production or canary) → the id of the release whose requests are counted for it; None if the track
    has no instances.
    """
    return {track: route.release_of(track) for track in Track}


@dataclass
class TrackCounts:
    """Holds the numbers of requests and errors (failed requests, except those whose visitor left) of production or of
    the canary, and their latencies.
    """

    requests: int = 0
    errors: int = 0
    latency: LatencyBuckets = field(default_factory=LatencyBuckets)


class AppCounts:
    """Counts the requests of one app, for production and the canary, during one epoch: a time in which both keep their
    release. `epoch` is its id, `route` the app's newest known route; `hangs` remembers which requests were counted as
    hanging.
    """

    def __init__(self, epoch: str, route: Route, hangs: HangWatch) -> None:
        self.hangs = hangs
        self.releases = releases_of(route)
        self._epoch = epoch
        self._tracks = {track: TrackCounts() for track in Track}
        self._judged: JudgedCounts | None = None
        self._view: TrafficView | None = None
        self._at_s = 0.0
        self.follow(route)

    def follow(self, route: Route) -> None:
        """Replaces the app's route by a changed one with the same releases. Begins the counts for the canary analysis
        if a rollout was opened since, and drops them if none is open.
        """
        self.route, self._view = route, None
        rollout = route.active_rollout
        if rollout is None:
            self._judged = None
        elif self._judged is None or self._judged.release != rollout.release:
            self._judged = JudgedCounts(rollout.release)

    def leave_out(self) -> None:
        """Counts, for the canary analysis, a request that is left out of all other counts because its visitor is not in
        the sample. Does nothing without an open rollout.
        """
        if self._judged:
            self._judged.leave_out(LeftOut.UNSAMPLED)
            self._view = None

    def add(self, line: LogLine, one_in: int) -> None:
        """Counts the request of an access-log line if it has ended, or has waited so long that it hangs; no request
        counts twice. If only one visitor in `one_in` is sampled, the request stands for `one_in` requests in the app's
        general figures, but for a single one in those of the canary analysis.
        """
        self._at_s = line.at_s
        if not line.ended:
            hangs = line.status == 0 and line.is_received and line.waited_ms > self._limit_ms()
            if hangs and self.hangs.begins(line.key):
                self._count(line, RequestError.HANGING, one_in)
            return
        is_productions = line.answered is line.assigned is Track.STABLE and line.kind not in FORCED
        if is_productions and line.first_byte_us is not None:
            self.hangs.answered(line.first_byte_us, line.at_s)
        if not self.hangs.ends(line.key):
            self._count(line, line.error(rollout_is_open=self._judged is not None), one_in)

    def view(self) -> TrafficView:
        """Returns the counts in the form of the REST interface. As long as nothing has changed, returns the same
        object.
        """
        if self._view is None:
            self._view = self._new_view()
        return self._view

    def _count(self, line: LogLine, error: RequestError | None, one_in: int) -> None:
        release = self.releases[line.assigned]
        fell_back = line.answered is not None and line.answered is not line.assigned
        if release is None or (line.release not in (NOTHING, release) and not fell_back):
            return
        self._view = None
        counts = self._tracks[line.assigned]
        counts.requests += one_in
        if error and error is not RequestError.GAVE_UP:  # visitors leave whenever they like
            counts.errors += one_in
        latency_us = None if line.is_stream or fell_back else line.first_byte_us
        if latency_us is not None:
            counts.latency.add(latency_us, one_in)
        if self._judged:
            self._judged.add(line, error, latency_us, one_in)

    def _limit_ms(self) -> float:
        return self.hangs.limit_ms(self._at_s, rollout_is_open=self._judged is not None)

    def _new_view(self) -> TrafficView:
        total = sum(counts.requests for counts in self._tracks.values())
        weight = self.route.split_weight()
        return TrafficView(
            epoch=self._epoch,
            share_set=weight / 100,
            share_seen=self._tracks[Track.CANARY].requests / total if total else None,
            tracks={
                track: TrackTraffic(
                    release=self.releases[track],
                    requests=counts.requests,
                    errors=counts.errors,
                    latency=counts.latency.histogram(),
                )
                for track, counts in self._tracks.items()
            },
            judged=self._judged.view(weight, self._limit_ms()) if self._judged else None,
        )
