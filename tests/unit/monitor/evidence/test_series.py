"""The series of a rollout holds every request, stays short however long the rollout is, and stays in order."""

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.monitor.evidence.series import (
    POINTS_MOST,
    Series,
    SeriesPoint,
    TrackPoint,
    packed,
    thinned,
    unpacked,
)
from tests.support.monitor.analysed import LE_MS, harm, verdict, window

DAYS_7 = 7 * 86_400
tracks = st.builds(
    TrackPoint,
    requests=st.integers(1, 10**6),
    errors=st.integers(0, 100),
    p50_ms=st.none() | st.floats(0.1, 10**5),
    p99_ms=st.none() | st.floats(0.1, 10**5),
)
points_lists = st.lists(st.tuples(tracks, tracks, st.integers(0, 100)), max_size=16).map(
    lambda found: [
        SeriesPoint(at_s=10.0 * (place + 1), seconds=10, weight=weight, stable=stable, canary=canary)
        for place, (stable, canary, weight) in enumerate(found)
    ]
)


@settings(max_examples=30, deadline=None)
@given(points_lists)
def test_thinning_loses_no_request_and_keeps_the_order(points: list[SeriesPoint]) -> None:
    thin = thinned(points)

    assert len(thin) == (len(points) + 1) // 2
    assert [point.at_s for point in thin] == sorted({point.at_s for point in thin})
    for track in ("stable", "canary"):
        before, after = ([getattr(point, track) for point in each] for each in (points, thin))
        assert sum(each.requests for each in after) == sum(each.requests for each in before)
        assert sum(each.errors for each in after) == sum(each.errors for each in before)
    assert sum(point.seconds for point in thin) == sum(point.seconds for point in points)
    assert [point.at_s for point in thin[-1:]] == [point.at_s for point in points[-1:]]


@settings(max_examples=30, deadline=None)
@given(points_lists)
def test_thinned_latencies_stay_between_those_that_they_stand_for(points: list[SeriesPoint]) -> None:
    for place, point in enumerate(thinned(points)):
        both = [each.canary for each in points[2 * place : 2 * place + 2]]
        medians = [each.p50_ms for each in both if each.p50_ms is not None]
        tails = [each.p99_ms for each in both if each.p99_ms is not None]
        assert point.canary.p99_ms == max(tails, default=None)
        if point.canary.p50_ms is None:
            assert medians == []
        else:
            assert min(medians) - 0.1 <= point.canary.p50_ms <= max(medians) + 0.1


@settings(max_examples=30, deadline=None)
@given(points_lists)
def test_a_packed_point_is_read_as_it_was(points: list[SeriesPoint]) -> None:
    assert [unpacked(packed(point)) for point in points] == points


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 300), st.sampled_from([2.0, 2.5, 7.0, 40.0])), max_size=200))
def test_windows_of_any_length_become_points_with_all_their_requests(counts: list[tuple[int, float]]) -> None:
    series, at_s = Series(), 0.0
    for requests, seconds in counts:
        at_s += seconds
        series.add(window(at_s, (requests, 0), seconds=seconds), None, LE_MS)

    points = series.points()
    assert sum(point.canary.requests for point in points) == sum(requests for requests, _ in counts)
    assert [point.at_s for point in points] == sorted({point.at_s for point in points})


def test_a_rollout_of_seven_days_takes_less_than_100_kb() -> None:
    series = Series()
    found = verdict(harms=[harm(bound=12.345), harm("latency", bound=123.456, unit="%")])
    for at_s in range(80, DAYS_7 + 1, 80):
        series.add(window(at_s, (123_456, 1234), (234_567, 2345), seconds=80, weight=33), found, LE_MS)

    points = series.points()
    assert POINTS_MOST / 2 <= len(points) <= POINTS_MOST
    assert series.point_s == 1280
    assert sum(len(packed(point)) for point in points) < 100_000
    assert sum(point.canary.requests for point in points) == DAYS_7 // 80 * 123_456
    assert points[-1].at_s == timedelta(days=7).total_seconds()


def test_the_first_seconds_are_shown_before_the_first_interval_has_ended() -> None:
    series = Series()
    series.add(window(2, (10, 5), (20, 0)), verdict(), LE_MS)

    [point] = series.points()
    assert (point.canary.requests, point.canary.errors, point.error_bound, point.score) == (10, 5, 1.5, 55)
    assert series.ended() == []


def test_a_gap_ends_the_interval() -> None:
    series = Series()
    for at_s in (2, 4, 60, 62):
        series.add(window(at_s), None, LE_MS)

    assert [(point.at_s, point.canary.requests) for point in series.points()] == [(4, 20), (62, 20)]


def test_quantiles_are_those_of_the_whole_interval() -> None:
    series = Series()
    for at_s in (2, 4, 6, 8, 10):
        series.add(window(at_s, (10, 3)), None, LE_MS)  # three of ten take up to 100 ms

    [point] = series.ended()
    assert point.canary.p50_ms == pytest.approx(10 * 25 / 35, abs=0.1)
    assert point.canary.p99_ms == pytest.approx(10 + 90 * 14.5 / 15, abs=0.1)


def test_what_an_earlier_process_has_stored_stands_before() -> None:
    series = Series()
    series.add(window(31), None, LE_MS)
    series.close()
    earlier = [
        SeriesPoint(at_s=at_s, seconds=10, weight=5, stable=TrackPoint(), canary=TrackPoint()) for at_s in (10, 20)
    ]
    series.restore(earlier, 20)

    assert [point.at_s for point in series.points()] == [10, 20, 31]
    assert series.point_s == 20
