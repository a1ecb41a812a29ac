"""The arithmetic of a load's report."""

import pytest

from stack.clients.load_report import Result, report


def at(done: float, *, lost: str = "", quick: bool = True, track: str = "stable", commit: str = "") -> Result:
    return Result(due=done - 0.01, done=done, quick=quick, status=200, track=track, commit=commit, lost=lost)


def test_the_gap_is_between_successes_only() -> None:
    results = [at(0.1), at(0.2, lost="status 500"), at(0.3, quick=False), at(0.6), at(0.7)]
    assert report(results, 0, 0.8).largest_gap_ms == pytest.approx(500)


def test_silence_at_either_edge_is_a_gap() -> None:
    assert report([at(0.4), at(0.5)], 0, 0.6).largest_gap_ms == pytest.approx(400)
    assert report([at(0.1), at(0.2)], 0, 0.9).largest_gap_ms == pytest.approx(700)
    assert report([], 0, 2).largest_gap_ms == pytest.approx(2000)


def test_completions_count_in_the_order_of_their_ends() -> None:
    late = Result(due=0.0, done=0.9, quick=True)
    assert report([late, at(0.3), at(0.6)], 0, 1).largest_gap_ms == pytest.approx(300)


def test_a_request_belongs_to_the_time_in_which_it_was_due() -> None:
    results = [at(0.1, lost="a"), at(0.5), at(0.9, lost="b")]
    part = report(results, 0.2, 0.8)
    assert (part.sent, part.lost) == (1, 0)
    assert report(results, 0, 1).lost == 2


def test_reasons_come_earliest_first_with_their_counts() -> None:
    results = [at(0.51, lost="late"), at(0.11, lost="early"), at(0.21, lost="early")]
    assert report(results, 0, 1).reasons == ["2 of: early, first after 0.10 s", "1 of: late, first after 0.50 s"]


def test_latency_leaves_out_the_slow_and_the_lost() -> None:
    results = [Result(0, ms / 1000, quick=True) for ms in range(1, 101)]
    results += [Result(0, 1.5, quick=False), Result(0, 1.5, quick=True, lost="status 500")]
    summary = report(results, 0, 2)
    assert summary.p50_ms == pytest.approx(51)
    assert summary.p99_ms == pytest.approx(100)
    assert report([], 0, 1).p50_ms is None


def test_tracks_and_commits_are_counted() -> None:
    results = [at(0.1, commit="a"), at(0.2, commit="b", track="canary"), at(0.3, commit="a"), at(0.4)]
    summary = report(results, 0, 1)
    assert summary.tracks == {"stable": 3, "canary": 1}
    assert summary.commits == {"a": 2, "b": 1}
