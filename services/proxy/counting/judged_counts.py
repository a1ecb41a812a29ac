"""Counts what the canary analysis compares: the requests of visitors whom chance assigned to production or the canary.
Pure.
"""

from collections import Counter

from services.proxy.counting.latency_buckets import LatencyBuckets
from services.proxy.counting.log_line import BY_CHANCE, FORCED, KNOWN, LogLine
from shared.models import Track
from shared.proxy_models import JudgedTrack, JudgedTraffic, LeftOut, RequestError

WINDOW_S = 2
MOST_IN_A_WINDOW = 5
MOST_VISITORS = 20_000


class VisitorCap:
    """Decides which requests of a visitor count: at most 5 in each window of 2 s, so that one visitor cannot decide the
    canary analysis.
    """

    def __init__(self) -> None:
        self._window = 0
        self._seen: dict[str, int] = {}
        self._before: dict[str, int] = {}
        """The numbers of the window before, since lines of two of Envoy's threads may be a little out of order."""

    def allows(self, visitor: str, at_s: float) -> bool:
        """Returns True if the visitor's request, logged at `at_s` (seconds since 1970), counts. Must be called once for
        each request.
        """
        window, seen = int(at_s // WINDOW_S), self._seen
        if window == self._window - 1:
            seen = self._before
        elif window != self._window:
            self._before = seen if window == self._window + 1 else {}
            self._window, self._seen = window, {}
            seen = self._seen
        number = seen[visitor] = seen.get(visitor, 0) + 1
        return number <= MOST_IN_A_WINDOW


class JudgedTrackCounts:
    """Holds, for the canary analysis, the counts of production or of the canary. The number of visitors and that of
    visitors with a failed request stop growing at 20 000, to limit memory.
    """

    def __init__(self) -> None:
        self.requests = 0
        self.client_errors = 0
        self.errors = Counter[RequestError]()
        self.latency = LatencyBuckets()
        self.visitors: set[int] = set()
        self.failing: set[int] = set()

    def view(self) -> JudgedTrack:
        return JudgedTrack(
            requests=self.requests,
            errors=dict(self.errors),
            client_errors=self.client_errors,
            latency=self.latency.histogram(always_bounds=True),
            visitors=len(self.visitors),
            failing_visitors=len(self.failing),
        )


class JudgedCounts:
    """Counts, for the canary analysis, the requests to production and the canary during one rollout. `release` is the
    canary's release.
    """

    def __init__(self, release: str) -> None:
        self.release = release
        self._tracks = {track: JudgedTrackCounts() for track in Track}
        self._left_out = Counter[LeftOut]()
        self._recognised = 0
        self._one_in = 1
        self._cap = VisitorCap()

    def leave_out(self, why: LeftOut) -> None:
        self._left_out[why] += 1

    def add(self, line: LogLine, error: RequestError | None, latency_us: int | None, one_in: int) -> None:
        """Counts a request from the access log, if its visitor was assigned to production or the canary by chance. Only
        counts as left out: a request whose visitor chose one of them by header or port, and one beyond 5 of a visitor
        in a window of 2 s. `error` says how the request failed (None: it did not), `latency_us` how many microseconds
        its answer took to begin (None: not measured). `one_in` is only reported: one visitor in so many is sampled.
        """
        self._one_in = one_in
        if line.kind in FORCED:
            self.leave_out(LeftOut.FORCED)
        if line.kind not in BY_CHANCE:
            return
        if not self._cap.allows(line.visitor, line.at_s):
            self.leave_out(LeftOut.CAPPED)
            return
        self._recognised += line.kind == KNOWN
        track, visitor = self._tracks[line.assigned], hash(line.visitor)
        track.requests += 1
        if len(track.visitors) < MOST_VISITORS:
            track.visitors.add(visitor)
        if error:
            track.errors[error] += 1
            if len(track.failing) < MOST_VISITORS:
                track.failing.add(visitor)
        track.client_errors += line.is_client_error
        if line.is_stream:
            self.leave_out(LeftOut.STREAM)
        if latency_us is not None:
            track.latency.add(latency_us)

    def view(self, weight: int, hang_limit_ms: float) -> JudgedTraffic:
        """Returns the counts. `weight`, the canary's share of new visitors in percent, and `hang_limit_ms`, the wait
        after which a request counts as hanging, become part of the result.
        """
        return JudgedTraffic(
            release=self.release,
            weight=weight,
            tracks={track: counts.view() for track, counts in self._tracks.items()},
            left_out=dict(self._left_out),
            recognised=self._recognised,
            sampled_one_in=self._one_in,
            hang_limit_ms=hang_limit_ms,
        )
