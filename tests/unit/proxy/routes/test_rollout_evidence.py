from datetime import timedelta

import pytest

from services.proxy.routes.rollout import Rollout
from services.proxy.routes.rollout_evidence import LONGEST_GIVEN, evidence, figures
from shared.models import Track
from shared.proxy_models import LatencyHistogram, TrackTraffic, TrafficView
from tests.support.proxy.routes import NOW

EMPTY = LatencyHistogram(le_ms=[1.0, 10.0, None], counts=[0, 0, 0])
TRAFFIC = TrafficView(
    epoch="e1",
    share_set=0.33,
    share_seen=0.25,
    tracks={
        Track.STABLE: TrackTraffic(release="notes-r1", requests=30, errors=0, latency=EMPTY),
        Track.CANARY: TrackTraffic(
            release="notes-r2",
            requests=10,
            errors=4,
            latency=LatencyHistogram(le_ms=[1.0, 10.0, None], counts=[5, 10, 10]),
        ),
    },
)


def test_the_traffic_in_few_numbers() -> None:
    summary = figures(TRAFFIC, 40)
    assert (summary.weight, summary.share_set, summary.share_seen, summary.epoch) == (40, 0.33, 0.25, "e1")
    assert summary.tracks[Track.CANARY].model_dump() == {
        "release": "notes-r2",
        "requests": 10,
        "errors": 4,
        "p50_ms": 1.0,
        "p95_ms": 9.1,
        "p99_ms": 9.8,
    }
    assert summary.tracks[Track.STABLE].p50_ms is None


def test_evidence_is_what_was_given_with_traffic_and_how_long_it_ran() -> None:
    rollout = Rollout(release="notes-r2", at=NOW, opened_at=NOW - timedelta(seconds=10))
    kept = evidence({"rule": "errors", "value": 0.4}, figures(TRAFFIC, 33), rollout, NOW + timedelta(seconds=2.25))
    assert (kept["rule"], kept["value"], kept["ran_s"]) == ("errors", 0.4, 12.2)
    traffic = kept["traffic"]
    assert isinstance(traffic, dict)
    assert (traffic["epoch"], traffic["weight"]) == ("e1", 33)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"words": "\ud800"}, {"words": "?"}),
        ({"words": "x" * LONGEST_GIVEN}, {"omitted": "what was measured is longer than 16 KiB"}),
    ],
)
def test_evidence_that_cannot_be_kept_does_not_hinder_an_abort(given: dict[str, str], expected: dict[str, str]) -> None:
    kept = evidence({**given}, figures(TRAFFIC, 33), Rollout(release="notes-r2", at=NOW), NOW)
    assert {key: value for key, value in kept.items() if key not in ("traffic", "ran_s")} == expected
