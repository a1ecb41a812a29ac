"""Sums of a rollout: where a stratum ends, which one is the worst, and what is left without it."""

from services.monitor.analysis.sections import newest, whole
from services.monitor.analysis.strata import PairSums, Strata, Stratum
from services.monitor.analysis.window import TrackWindow


def filled(*windows: tuple[int, float, tuple[int, int], tuple[int, int], int]) -> Strata:
    """Returns strata of windows: step, beginning, requests and errors of both tracks, and the canary's bucket."""
    strata = Strata(3)
    for step, at_s, (mine, errors), (others, other_errors), bucket in windows:
        stratum = strata.at(step, at_s)
        stratum.canary.count(TrackWindow(mine, errors), errors, {bucket: mine})
        stratum.stable.count(TrackWindow(others, other_errors), other_errors, {0: others})
        stratum.expected_errors += (errors + other_errors) / 2
        stratum.expected_failing += (errors + other_errors) / 2
    return strata


def ended(strata: Strata) -> list[tuple[int, float]]:
    return [(stratum.step, stratum.began_s) for stratum in strata.recent]


def test_a_stratum_ends_after_20_s_or_with_its_step() -> None:
    strata = filled(*((step, at_s, (1, 0), (1, 0), 0) for step, at_s in ((0, 0), (0, 18), (0, 20), (1, 22), (1, 30))))

    assert ended(strata) == [(0, 0), (0, 20)]
    assert strata.open is not None
    assert (strata.open.step, strata.open.began_s, strata.open.canary.requests) == (1, 22, 2)


def test_a_stratum_goes_on_until_both_tracks_have_had_requests() -> None:
    strata = filled(*((0, 20.0 * number, (1, 0), (int(number == 3), 0), 0) for number in range(6)))

    assert ended(strata) == [(0, 0)]
    assert strata.recent[0].canary.requests == 4


def test_a_stratum_without_production_ends_after_enough_requests_of_the_canary() -> None:
    strata = filled(*((0, 20.0 * number, (30, 0), (0, 0), 0) for number in range(5)))

    assert ended(strata) == [(0, 0), (0, 40)]


def total(pair: PairSums) -> tuple[int, int, int, int]:
    return pair.canary.requests, pair.canary.errors, pair.stable.requests, pair.stable.errors


def test_the_whole_rollout_can_be_seen_without_its_worst_stratum() -> None:
    windows = [(0, 20.0 * number, (10, 1), (10, 1), 1) for number in range(9)]
    windows[2] = (0, 40.0, (10, 9), (10, 0), 0)
    windows[4] = (0, 80.0, (10, 0), (10, 0), 2)
    windows[4] = (0, 80.0, (30, 0), (10, 0), 2)
    strata = filled(*windows)
    errors, slow = strata.worst_for_errors(), strata.worst_for_latency()

    assert (errors and errors.began_s, slow and slow.began_s) == (40, 80)
    assert total(whole(strata).total) == (110, 16, 90, 7)
    assert total(whole(strata, without=errors).total) == (100, 7, 80, 7)
    without = whole(strata, without=errors).tests
    assert (without.canary_errors, without.all_errors, without.expected_errors) == (7, 14, 7)
    difference = without.errors.difference()
    assert difference is not None
    assert abs(difference) < 1e-9


def test_the_worst_stratum_may_be_the_open_one() -> None:
    strata = filled((0, 0, (9, 1), (9, 1), 0), (0, 20, (9, 0), (9, 0), 0), (0, 40, (9, 5), (9, 0), 2))

    assert strata.worst_for_errors() is strata.worst_for_latency() is strata.open


def test_no_stratum_is_the_worst_of_a_canary_that_is_never_worse() -> None:
    strata = filled((0, 0, (9, 0), (9, 3), 0), (0, 20, (9, 0), (9, 0), 0), (0, 40, (9, 0), (9, 0), 0))

    assert strata.worst_for_errors() is None
    assert strata.worst_for_latency() is None


def test_the_newest_part_has_the_last_two_minutes() -> None:
    strata = filled(*((0, 2.0 * number, (1, int(number < 100)), (2, 0), 0) for number in range(300)))

    assert total(newest(strata).total) == (70, 0, 140, 0)
    assert total(newest(strata, ended=1).total) == (20, 0, 40, 0)
    assert newest(strata).tests.errors.difference() == 0


def test_an_empty_rollout_has_empty_sums() -> None:
    assert total(whole(Strata(3)).total) == (0, 0, 0, 0)
    assert whole(Strata(3)).errors is None
    assert Stratum.total(3).canary.latency == [0, 0, 0]
