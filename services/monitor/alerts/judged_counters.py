"""Computes windows for the canary analysis: the requests between two readings of the proxy's counters. Pure."""

from collections.abc import Sequence
from datetime import datetime

from pydantic import Field

from services.monitor.analysis.window import JudgedWindow, TrackWindow
from shared.models import Track, View
from shared.proxy_models import JudgedTrack, JudgedTraffic

SHORTEST_S = 0.001  # of a window, if the clock was set back


class JudgedTrackCounters(View):
    """Holds the proxy's counters of one track (production or canary). `latency` has the number of requests in each
    latency bucket, not cumulative.
    """

    requests: int = 0
    errors: int = 0
    client_errors: int = 0
    latency: list[int] = Field([])
    visitors: int = 0
    failing_visitors: int = 0


class JudgedCounters(View):
    """Holds the proxy's counters of both tracks (production and canary) since the proxy last began to count at 0, which
    `epoch` identifies. They were read at `at`; `at_s` is the same time in seconds since the rollout was opened. `step`
    and `weight` are the rollout's step, from 0, and the canary's share in percent at that time; `le_ms` holds the upper
    bounds of the latency buckets.
    """

    epoch: str = ""
    at: datetime
    at_s: float = 0.0
    step: int = 0
    weight: int = 0
    le_ms: list[float | None] = Field([])
    tracks: dict[Track, JudgedTrackCounters] = Field({})

    def following(self, epoch: str, judged: JudgedTraffic, step: int, now: datetime) -> "JudgedCounters":
        """Returns the counters `judged`, which were read from the proxy at `now`, as the successors of these."""
        return JudgedCounters(
            epoch=epoch,
            at=now,
            at_s=self.at_s + max(SHORTEST_S, (now - self.at).total_seconds()),
            step=step,
            weight=judged.weight,
            le_ms=judged.tracks[Track.STABLE].latency.le_ms,
            tracks={track: _counters(counts) for track, counts in judged.tracks.items()},
        )


def _counters(counts: JudgedTrack) -> JudgedTrackCounters:
    cumulative = counts.latency.counts
    return JudgedTrackCounters(
        requests=counts.requests,
        errors=sum(counts.errors.values()),
        client_errors=counts.client_errors,
        latency=[after - below for below, after in zip([0, *cumulative], cumulative, strict=False)],
        visitors=counts.visitors,
        failing_visitors=counts.failing_visitors,
    )


def window_between(
    before: JudgedCounters, after: JudgedCounters, le_ms: Sequence[float | None], *, warming: bool
) -> JudgedWindow:
    """Returns the requests between the readings `before` and `after`. If the proxy has begun to count at 0 in between,
    these are all that it has counted since. If the rollout's step has changed in between, all of them belong to the
    earlier step. Latencies that were counted in other buckets than `le_ms` are left out. `warming` is True if an
    instance of the canary is new.
    """
    step_of = before if before.tracks else after
    earlier = before.tracks if before.epoch == after.epoch else {}
    has_latency = list(le_ms) == after.le_ms
    return JudgedWindow(
        at_s=after.at_s,
        seconds=after.at_s - before.at_s,
        step=step_of.step,
        weight=step_of.weight,
        tracks={
            track: _difference(earlier.get(track, JudgedTrackCounters()), counts, has_latency)
            for track, counts in after.tracks.items()
        },
        warming=warming,
    )


def _difference(before: JudgedTrackCounters, after: JudgedTrackCounters, has_latency: bool) -> TrackWindow:
    old = before.latency if len(before.latency) == len(after.latency) else [0] * len(after.latency)
    latency = tuple(max(0, count - earlier) for earlier, count in zip(old, after.latency, strict=True))
    return TrackWindow(
        requests=max(0, after.requests - before.requests),
        errors=max(0, after.errors - before.errors),
        client_errors=max(0, after.client_errors - before.client_errors),
        latency=latency if has_latency else (),
        failing_visitors=after.failing_visitors,
        visitors=after.visitors,
    )
