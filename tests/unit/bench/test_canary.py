"""Tests what `make bench-canary` simulates, and what it makes of it."""

from dataclasses import replace
from itertools import pairwise
from random import Random
from statistics import mean

import pytest

from bench.canary.__main__ import main
from bench.canary.cases import Promise, SimulatedCase
from bench.canary.flagger import Flagger
from bench.canary.runs import Abort, AbortSummary, Summary, run, summaries
from bench.canary.sticky import Sticky
from bench.canary.traffic import LE_MS, Disturbance, Independent, Traffic, poisson, shares
from services.monitor.analysis.window import TrackWindow
from shared.models import Track
from shared.proxy_models import VerdictResult

SHORT = Independent(20, steps=((33, 60.0), (60, 60.0)))
BROKEN = SimulatedCase("broken", replace(SHORT, canary=(Disturbance(errors=0.9),)), Promise.ABORTED)


def canary(requests: int, errors: int, bucket: int) -> TrackWindow:
    latency = [0] * len(LE_MS)
    latency[bucket] = requests - errors
    return TrackWindow(requests, errors, 0, tuple(latency))


@pytest.mark.parametrize("traffic", [SHORT, Sticky(length_s=120.0)])
def test_traffic_is_the_same_for_the_same_seed_and_has_no_gap(traffic: Traffic) -> None:
    one, again, other = (list(traffic.windows(Random(seed))) for seed in (1, 1, 2))

    assert one == again != other
    assert one[-1].at_s == 120
    assert all(after.at_s - after.seconds == before.at_s for before, after in pairwise(one))
    for window in one:
        for figures in window.tracks.values():
            assert figures.errors + figures.client_errors + sum(figures.latency) == figures.requests


def test_the_canary_gets_its_share_of_requests() -> None:
    windows = list(SHORT.windows(Random(3)))
    of = {
        step: [sum(window.tracks[track].requests for window in windows if window.step == step) for track in Track]
        for step in (0, 1)
    }

    assert sum(of[0] + of[1]) == pytest.approx(20 * 120, rel=0.1)
    for step, share in ((0, 0.33), (1, 0.6)):
        stable, mine = of[step]
        assert mine / (mine + stable) == pytest.approx(share, abs=0.05)


def test_random_numbers_have_the_mean_that_they_should_have() -> None:
    random = Random(4)

    assert mean(poisson(3.7, random) for _ in range(4000)) == pytest.approx(3.7, abs=0.15)
    assert sum(shares(100, 0.5)) == pytest.approx(1)


def test_flagger_rolls_back_at_the_fifth_failed_check() -> None:
    rule = Flagger(60)
    for check in range(1, 6):
        assert not rule.rolled_back
        rule.add(60.0 * check - 2, canary(100, 0, 20))
        rule.add(60.0 * check, canary(100, 3, 20))

    assert rule.rolled_back


@pytest.mark.parametrize(
    ("window", "fails"),
    [
        (canary(0, 0, 0), 0),
        (canary(200, 2, 20), 0),
        (canary(200, 3, 20), 1),
        (canary(200, 0, 60), 1),
        (canary(1000, 0, len(LE_MS) - 1), 1),
    ],
)
def test_flagger_checks_the_success_rate_and_p99(window: TrackWindow, fails: int) -> None:
    rule = Flagger(10)
    rule.add(10.0, window)

    assert rule.failed_checks == fails


def test_a_broken_canary_is_aborted_within_seconds_and_counted_with_its_bad_answers() -> None:
    outcome = run(BROKEN, 1)

    assert outcome.result is VerdictResult.FAIL
    assert outcome.judge is not None
    assert outcome.judge.at_s <= 8
    assert 0 < outcome.judge.bad < 100


def test_runs_in_processes_are_summed_up_by_case() -> None:
    healthy = SimulatedCase("healthy", SHORT, Promise.LEFT_ALONE)

    good, bad = summaries([(healthy, 2), (BROKEN, 3)], 2)

    assert (good.case, good.runs, good.judge.share) == (healthy, 2, 0.0)
    assert (bad.case, bad.runs, bad.judge.share) == (BROKEN, 3, 1.0)
    assert good.missed() == bad.missed() == ""


@pytest.mark.parametrize(
    ("promise", "share", "median_s", "missed"),
    [
        (Promise.LEFT_ALONE, 0.01, None, ""),
        (Promise.LEFT_ALONE, 0.011, None, "case: 1.1% aborted, at most 1% may be"),
        (Promise.ABORTED, 0.98, None, "case: 2.0% not aborted, at most 1% may be"),
        (Promise.ABORTED, 1.0, 5.0, "case: 7 s in the middle, at most 5 s may be"),
        (Promise.NONE, 0.5, None, ""),
    ],
)
def test_a_promise_that_was_not_kept_is_told(
    promise: Promise, share: float, median_s: float | None, missed: str
) -> None:
    case = SimulatedCase("case", SHORT, promise, median_s)
    side = AbortSummary(share, 7.0, 9.0, 3.0)

    assert Summary(case, 1000, 0.0, side, ()).missed() == missed


def test_aborts_are_summed_up_by_median_and_worst() -> None:
    aborts = [Abort(float(second), second * 2) for second in range(1, 100)] + [None]

    assert AbortSummary.of(aborts) == AbortSummary(0.99, 50.0, 99.0, 100)
    assert AbortSummary.of([None]) == AbortSummary(0.0, None, None, None)


def test_the_program_prints_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--quick", "--only", "1/s, +90", "--processes", "1"]) == 0

    assert "1/s, +90 % errors" in capsys.readouterr().out
