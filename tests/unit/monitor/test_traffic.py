"""The canary's share of errors over a window, and whose fault they are."""

from datetime import UTC, datetime, timedelta

import pytest

from services.monitor.rule import Reading
from services.monitor.traffic import Window
from shared.models import LatencyHistogram, Track, TrackTraffic, TrafficView

AT = datetime(2026, 1, 1, tzinfo=UTC)
NONE = LatencyHistogram(le_ms=[None], counts=[0])


def at(seconds: float) -> datetime:
    return AT + timedelta(seconds=seconds)


def traffic(
    canary: tuple[int, int], stable: tuple[int, int] = (0, 0), epoch: str = "e1", release: str = "notes-r9"
) -> TrafficView:
    tracks = {
        Track.CANARY: TrackTraffic(release=release, requests=canary[0], errors=canary[1], latency=NONE),
        Track.STABLE: TrackTraffic(release="notes-r8", requests=stable[0], errors=stable[1], latency=NONE),
    }
    return TrafficView(epoch=epoch, share_set=0.33, share_seen=None, tracks=tracks)


NO_CANARY = TrafficView(
    epoch="e0",
    share_set=0,
    share_seen=None,
    tracks={track: TrackTraffic(release=None, requests=0, errors=0, latency=NONE) for track in Track},
)


def after(canary: tuple[int, int], stable: tuple[int, int]) -> Reading:
    """One step from nothing to these counts."""
    window = Window()
    window.add(NO_CANARY, at(0))
    window.add(traffic(canary, stable), at(4))
    return window.canary_errors("notes-r9", at(4))


@pytest.mark.parametrize(
    ("canary", "stable", "share"),
    [
        ((41, 41), (80, 0), 1.0),
        ((100, 5), (200, 4), 0.05),
        ((100, 0), (200, 0), 0.0),
        ((100, 0), (200, 50), 0.0),
        ((100, 50), (200, 100), 0.0),  # equally bad
        ((100, 50), (200, 50), 0.0),  # half as bad
        ((100, 50), (200, 49), 0.5),  # less than half as bad
        ((100, 50), (19, 19), 0.5),  # stable has too few requests to be an excuse
        ((20, 20), (0, 0), 1.0),
        ((19, 19), (80, 0), None),
        ((0, 0), (80, 0), None),
    ],
)
def test_the_share_of_errors(canary: tuple[int, int], stable: tuple[int, int], share: float | None) -> None:
    assert after(canary, stable).value == share


def test_a_reading_says_its_figures() -> None:
    assert after((41, 41), (80, 0)).words == "answered 41 of 41 requests with 5xx in 4 s; stable 0 of 80"


def test_without_a_look_there_is_no_reading() -> None:
    window = Window()
    assert window.canary_errors("notes-r9", at(0)).value is None
    window.add(NO_CANARY, at(0))
    window.add(traffic((100, 100)), at(1))
    assert window.canary_errors("notes-r9", at(11)).value == 1.0
    assert window.canary_errors("notes-r9", at(12)).value is None  # the proxy is silent for too long


def test_only_the_last_ten_seconds_count_if_they_have_enough_requests() -> None:
    window = Window()
    window.add(NO_CANARY, at(0))
    for second in range(1, 31):
        errors = 0 if second <= 20 else (second - 20) * 10
        window.add(traffic((second * 10, errors)), at(second))
    assert window.canary_errors("notes-r9", at(30)).value == 1.0
    assert "100 of 100 requests with 5xx in 10 s" in window.canary_errors("notes-r9", at(30)).words


def test_with_few_visitors_the_window_reaches_further_back() -> None:
    window = Window()
    window.add(NO_CANARY, at(0))
    for second in range(1, 61):
        window.add(traffic((second // 2, second // 2)), at(second))
    reading = window.canary_errors("notes-r9", at(60))
    assert (reading.value, reading.words.split(";")[0]) == (1.0, "answered 20 of 20 requests with 5xx in 39 s")


def test_a_monitor_that_starts_late_counts_from_its_first_look() -> None:
    window = Window()
    window.add(traffic((1000, 1000)), at(0))
    assert window.canary_errors("notes-r9", at(0)).value is None
    window.add(traffic((1100, 1000)), at(1))
    assert window.canary_errors("notes-r9", at(1)).value == 0.0


def test_a_new_epoch_begins_at_zero() -> None:
    window = Window()
    window.add(NO_CANARY, at(0))
    window.add(traffic((100, 100)), at(1))
    window.add(traffic((30, 3), epoch="e2"), at(2))
    assert window.canary_errors("notes-r9", at(2)).value == 0.1


def test_what_another_release_answered_does_not_count() -> None:
    window = Window()
    window.add(NO_CANARY, at(0))
    window.add(traffic((100, 100), release="notes-r7"), at(1))
    assert window.canary_errors("notes-r9", at(1)).value is None
    window.add(traffic((100, 100)), at(2))
    assert window.canary_errors("notes-r9", at(2)).value == 1.0
    window.add(traffic((30, 0), epoch="e2", release="notes-r10"), at(3))
    assert window.canary_errors("notes-r9", at(3)).value is None
    assert window.canary_errors("notes-r10", at(3)).value == 0.0
