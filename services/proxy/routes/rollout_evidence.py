"""Assembles the evidence that an ended rollout keeps: the measurements sent with the request to end it, and the traffic
at its end. Pure.
"""

import json
from datetime import datetime

from pydantic import JsonValue

from services.proxy.routes.rollout import Rollout
from shared.models import Track, View
from shared.proxy_models import TrafficView, quantile_ms

LONGEST_GIVEN = 16 * 1024


class TrackFigures(View):
    """Holds traffic figures of one track (production or canary). Latency quantiles are in milliseconds, null if there
    were no requests.
    """

    release: str | None
    requests: int
    errors: int
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None


class TrafficFigures(View):
    """Summarises the app's traffic since its counters last began at 0, which `epoch` identifies. `share_set` and
    `share_seen` are the canary's share of requests as set and as measured, from 0 to 1; `share_seen` is null if there
    were no requests. `weight` is in percent.
    """

    epoch: str
    share_set: float
    share_seen: float | None
    weight: int
    tracks: dict[Track, TrackFigures]


def figures(traffic: TrafficView, weight: int) -> TrafficFigures:
    """Returns a summary of the app's traffic. `weight` is the share that is set for the canary, in percent, even if
    visitors are not split at present.
    """
    tracks = {
        track: TrackFigures(
            release=one.release,
            requests=one.requests,
            errors=one.errors,
            p50_ms=quantile_ms(one.latency, 0.5, digits=1),
            p95_ms=quantile_ms(one.latency, 0.95, digits=1),
            p99_ms=quantile_ms(one.latency, 0.99, digits=1),
        )
        for track, one in traffic.tracks.items()
    }
    shares = {"share_set": traffic.share_set, "share_seen": traffic.share_seen}
    return TrafficFigures(epoch=traffic.epoch, weight=weight, tracks=tracks, **shares)


def evidence(
    given: dict[str, JsonValue], traffic: TrafficFigures, rollout: Rollout, now: datetime
) -> dict[str, JsonValue]:
    """Returns `given` (measurements sent with the request to end the rollout) with `traffic` and `ran_s`, the seconds
    since the rollout was opened. Characters that UTF-8 cannot encode become `?`. If `given` is longer than 16 KiB of
    JSON, a remark replaces it, because each change of the route stores it again.
    """
    text = json.dumps(given, ensure_ascii=False).encode(errors="replace")
    given = json.loads(text) if len(text) <= LONGEST_GIVEN else {"omitted": "what was measured is longer than 16 KiB"}
    ran_s = round((now - rollout.opened_at).total_seconds(), 1)
    return {**given, "traffic": traffic.model_dump(mode="json"), "ran_s": ran_s}
