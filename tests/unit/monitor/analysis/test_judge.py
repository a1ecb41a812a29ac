"""The verdict on whole rollouts: what aborts a canary, what does not, and what it says of itself."""

import json
from collections.abc import Iterator
from random import Random

import pytest

from services.monitor.analysis.judge import Judge
from services.monitor.analysis.lanes.margins import Margins
from services.monitor.analysis.verdict import CanaryVerdict
from services.monitor.analysis.window import JudgedWindow, TrackWindow
from shared.models import Track
from shared.proxy_models import VerdictResult
from tests.unit.monitor.analysis.rollouts import LE_MS, QUICK, SLOW, Rollout

FAIL, PASS, INCONCLUSIVE = VerdictResult.FAIL, VerdictResult.PASS, VerdictResult.INCONCLUSIVE


def harm(verdict: CanaryVerdict, name: str) -> float:
    return next(each.capital for each in verdict.harms if each.name == name)


def test_thirteen_of_thirteen_errors_fail_although_there_were_few_visitors() -> None:
    """run/07: 13 of 13 against 0 of 26, one request of the canary every 20 s."""
    rollout = Rollout()
    for _ in range(13):
        rollout.window((1, 1), (1, 0)), rollout.windows(4, (0, 0), (0, 0))
        rollout.window((0, 0), (1, 0)), rollout.windows(4, (0, 0), (0, 0))

    verdict = rollout.judge.verdict()

    assert (verdict.result, verdict.score) == (FAIL, 0)
    assert verdict.seconds <= 260
    assert verdict.reason.startswith("errors: ")
    assert "requests to the canary failed" in verdict.reason
    assert verdict.reason.endswith("to production (0.0 %)")


@pytest.mark.parametrize("weight", [33, 50, 95, 100])
@pytest.mark.parametrize("visitors", [None, 1, 2, 5])
def test_a_canary_that_only_fails_is_failed_although_production_has_no_requests(
    weight: int, visitors: int | None
) -> None:
    rollout = Rollout(weight=weight, visitors=visitors)

    verdict = rollout.windows(13, (1, 1), (0, 0), seconds=20.0).judge.verdict()

    assert verdict.result is FAIL
    assert "production had no requests" in verdict.reason


@pytest.mark.parametrize(
    ("canary", "stable"), [((109, 31), (12, 3)), ((61, 5), (6, 2)), ((100, 100), (5, 5)), ((300, 150), (12, 8))]
)
def test_an_outage_of_both_does_not_fail_a_canary_that_has_nearly_all_requests(
    canary: tuple[int, int], stable: tuple[int, int]
) -> None:
    """run/06, at weight 95: the requests came in some seconds, the errors at their end."""
    rollout = Rollout(weight=95)
    (mine, errors), (others, other_errors) = canary, stable
    rollout.windows(3, ((mine - errors) // 3, 0), ((others - other_errors) // 3, 0))
    left, left_others = errors, other_errors
    for windows_left in range(4, 0, -1):
        now, now_others = left // windows_left, left_others // windows_left
        rollout.window((now, now), (now_others, now_others))
        left, left_others = left - now, left_others - now_others
    rollout.healthy(20, 19, 1)

    assert rollout.judge.verdict().result is not FAIL
    assert rollout.judge.at_gate(last=True).result is not FAIL


def test_an_outage_of_both_from_beginning_to_end_fails_nobody() -> None:
    rollout = Rollout().windows(100, (7, 7), (14, 14))

    assert rollout.judge.at_gate(last=True).result is INCONCLUSIVE


def test_a_canary_of_errors_fails_in_the_second_window() -> None:
    rollout = Rollout().healthy(30)
    rollout.windows(9, (7, 7), (14, 0))

    assert rollout.judge.verdict().seconds == 64


def test_a_window_of_six_seconds_after_lost_readings_counts_as_three() -> None:
    rollout = Rollout().healthy(30)
    rollout.window((9, 9), (21, 0), seconds=6.0)

    assert rollout.judge.verdict().result is FAIL


@pytest.mark.parametrize("windows", [1, 5])
def test_two_seconds_of_errors_among_healthy_ones_do_not_fail(windows: int) -> None:
    rollout = Rollout().healthy(30)
    rollout.windows(windows, (7, 1), (14, 0), seconds=2.0 / windows)

    assert rollout.healthy(30).judge.verdict().result is not FAIL


def test_without_requests_nothing_is_known() -> None:
    rollout = Rollout()

    assert rollout.judge.verdict().result is INCONCLUSIVE
    verdict = rollout.windows(300, (0, 0), (0, 0)).judge.at_gate(last=True)

    assert (verdict.result, verdict.score) == (INCONCLUSIVE, 50)
    assert verdict.reason == "0 requests to the canary so far; it takes 100 to pass"
    assert verdict.latency_ms == {Track.CANARY: {}, Track.STABLE: {}}
    assert {each.effect for each in verdict.harms if each.name != "outage"} == {None}


def test_a_healthy_canary_passes_with_a_score_of_100() -> None:
    verdict = Rollout().healthy(200).judge.at_gate(last=True)

    assert (verdict.result, verdict.score) == (PASS, 100)
    assert verdict.reason == (
        "no harm in 1400 requests to the canary: with a confidence of 95 % at most 0.17 points more errors than "
        "production, and at most 15 % or 10 ms slower"
    )
    assert verdict.requests == {Track.CANARY: 1400, Track.STABLE: 2800}


def test_a_healthy_canary_of_few_requests_is_not_known_to_be_harmless() -> None:
    verdict = Rollout().healthy(50, 2, 4).judge.at_gate(last=True)

    assert verdict.result is INCONCLUSIVE
    assert verdict.reason.startswith("errors: up to 2.")
    assert 50 < verdict.score < 100


def test_a_slow_canary_fails_after_its_warm_up() -> None:
    rollout = Rollout().windows(100, (7, 0), (14, 0), buckets=(SLOW, QUICK))
    verdict = rollout.judge.verdict()

    assert verdict.result is FAIL
    assert 32 <= verdict.seconds <= 40
    assert "latency: p50 of the canary is " in verdict.reason
    assert verdict.latency_ms[Track.CANARY]["p50"] == pytest.approx(
        4 * verdict.latency_ms[Track.STABLE]["p50"], rel=0.02
    )


def test_a_slow_down_of_a_few_milliseconds_neither_fails_nor_keeps_from_passing() -> None:
    rollout = Rollout().windows(100, (7, 0), (14, 0), buckets=(QUICK + 2, QUICK))
    verdict = rollout.judge.at_gate(last=True)

    assert harm(verdict, "latency") >= 100
    assert (verdict.result, verdict.score) == (PASS, 100)
    assert verdict.latency_ms[Track.CANARY]["p90"] - verdict.latency_ms[Track.STABLE]["p90"] == pytest.approx(
        5.2, abs=0.1
    )
    assert Rollout().windows(100, (7, 0), (14, 0), buckets=(QUICK + 4, QUICK)).judge.failed


def test_a_canary_that_is_slow_only_while_it_warms_up_passes() -> None:
    rollout = Rollout().windows(15, (7, 0), (14, 0), buckets=(SLOW, QUICK)).healthy(50)
    rollout.windows(15, (7, 0), (14, 0), buckets=(SLOW, QUICK), warming=True)

    assert rollout.healthy(50).judge.at_gate(last=True).result is PASS


def test_the_warm_up_begins_with_the_first_request_of_the_canary() -> None:
    rollout = Rollout().windows(60, (0, 0), (21, 0))

    rollout.windows(15, (7, 0), (14, 0), buckets=(SLOW, QUICK))

    assert harm(rollout.judge.verdict(), "latency") == 1.0


def test_errors_count_during_the_warm_up() -> None:
    assert Rollout().windows(5, (7, 7), (14, 0)).judge.failed


def test_a_surge_of_client_errors_fails() -> None:
    rollout = Rollout().windows(100, (7, 0), (14, 0), client_errors=(5, 1))
    verdict = rollout.judge.verdict()

    assert verdict.result is FAIL
    assert verdict.reason.startswith("client errors: ")
    assert "to the canary were answered with 4xx (71.4 %)" in verdict.reason


def test_client_errors_on_both_tracks_do_not_fail() -> None:
    rollout = Rollout().windows(200, (9, 0), (18, 0), client_errors=(5, 10))

    assert rollout.judge.at_gate(last=True).result is PASS


def test_what_rises_for_both_when_the_weight_changes_fails_nobody() -> None:
    """Pooled over both steps the canary has 7 % errors, and production 3 %."""
    rollout = Rollout(weight=5).windows(150, (5, 0), (95, 1))
    rollout.step, rollout.weight = 1, 60
    for number in range(150):
        errors = (5, 3) if number % 2 else (4, 4)
        rollout.window((60, errors[0]), (40, errors[1]), buckets=(QUICK + 3, QUICK + 3))
    verdict = rollout.judge.at_gate(last=True)

    assert verdict.result is not FAIL, verdict.reason


def test_a_canary_that_is_better_than_production_passes() -> None:
    rollout = Rollout(weight=50).windows(200, (10, 0), (10, 2), client_errors=(0, 4), buckets=(QUICK, SLOW))

    assert rollout.judge.at_gate(last=True).result is PASS


def test_harm_that_begins_late_fails_a_canary_that_was_healthy_for_long() -> None:
    for canary, stable, buckets, most_s in (
        ((7, 7), (14, 0), (QUICK, QUICK), 6),
        ((7, 1), (14, 0), (QUICK, QUICK), 60),
        ((7, 0), (14, 0), (SLOW, QUICK), 40),
    ):
        rollout = Rollout().healthy(600).windows(60, canary, stable, buckets=buckets)

        assert rollout.judge.failed
        assert rollout.at_s - 1200 <= most_s
        assert "lately" in rollout.judge.verdict().reason


def test_one_visitor_whose_requests_all_fail_is_not_the_canarys_harm() -> None:
    rollout = Rollout(visitors=20).healthy(20)
    judge, latency = rollout.judge, (0,) * len(LE_MS)
    for number in range(40):
        canary, stable = TrackWindow(7, 2, 0, latency, 1, 20), TrackWindow(14, 0, 0, latency, 0, 40)
        judge.add(JudgedWindow(42 + 2 * number, 2, 0, 33, {Track.CANARY: canary, Track.STABLE: stable}))
    verdict = rollout.judge.verdict()

    assert harm(verdict, "errors") >= 100
    assert verdict.result is INCONCLUSIVE
    assert "all are those of 1 of its 20 visitors" in verdict.reason


def test_a_tiny_app_needs_more_than_some_errors_of_its_only_visitor() -> None:
    rollout = Rollout(visitors=1)

    assert rollout.windows(60, (2, 1), (0, 0)).judge.verdict().result is not FAIL
    assert rollout.windows(20, (2, 2), (0, 0)).judge.verdict().result is FAIL


def test_latencies_of_few_visitors_with_many_requests_count_less() -> None:
    many, few = Rollout(), Rollout(visitors=4)
    for rollout in (many, few):
        rollout.windows(20, (1, 0), (2, 0), buckets=(QUICK + 1, QUICK))

    assert harm(few.judge.verdict(), "latency") < harm(many.judge.verdict(), "latency")


def test_a_fail_is_never_taken_back() -> None:
    rollout = Rollout().windows(10, (7, 7), (14, 0))
    failed = rollout.judge.verdict()
    for _ in range(300):
        rollout.window((7, 0), (14, 0))

    assert failed.result is FAIL
    assert rollout.judge.verdict() == rollout.judge.at_gate(last=True) == failed


def test_the_gate_finds_what_the_lanes_are_not_certain_of_but_looks_once() -> None:
    early, late = Rollout(weight=50), Rollout(weight=50)
    late.healthy(6, 20, 20)
    assert late.judge.at_gate(last=True).result is INCONCLUSIVE
    for rollout in (early, late):
        for number in range(120):
            rollout.window((20, int(number % 7 == 0)), (20, int(number % 40 == 0)))

    assert max(each.capital for each in early.judge.verdict().harms) < 100
    assert early.judge.at_gate(last=False).result is not FAIL
    assert early.judge.at_gate(last=True).result is FAIL
    assert late.judge.at_gate(last=True).result is not FAIL


def test_one_incident_does_not_fail_a_canary_at_the_gate() -> None:
    one, many = Rollout(weight=50).healthy(40, 10, 10), Rollout(weight=50).healthy(40, 10, 10)
    one.windows(8, (10, 1), (10, 0)).healthy(88, 10, 10)
    for _ in range(9):
        many.windows(1, (10, 1), (10, 0)).healthy(11, 10, 10)

    assert not (one.judge.failed or many.judge.failed)
    assert one.judge.at_gate(last=True).result is not FAIL
    assert many.judge.at_gate(last=True).result is FAIL
    assert "outside of its worst 20 s" in many.judge.verdict().reason


def test_the_gate_waits_with_its_tests_until_there_are_requests() -> None:
    rollout = Rollout(weight=50).windows(4, (20, 0), (20, 0))

    assert rollout.judge.at_gate(last=True).result is INCONCLUSIVE
    assert rollout.judge.dump()["tested"] is False


def test_signs_of_harm_keep_a_canary_from_passing() -> None:
    rollout = Rollout().healthy(300)
    while max(each.capital for each in rollout.judge.verdict().harms) < 10:
        rollout.window((7, 1), (14, 0))
    verdict = rollout.judge.at_gate(last=False)

    assert (verdict.result, verdict.score < 50) == (INCONCLUSIVE, True)
    assert "there are signs of harm" in verdict.reason


def random_windows(seed: int, harmful: bool) -> Iterator[JudgedWindow]:
    random, at_s = Random(seed), 0.0
    seen = {track: [0, 0] for track in Track}
    for number in range(200):
        seconds = random.choice([2.0, 2.0, 2.5, 6.0])
        at_s += seconds
        tracks = {}
        for track, share in ((Track.CANARY, 0.33), (Track.STABLE, 0.67)):
            requests = sum(random.random() < share for _ in range(random.randrange(30)))
            chance = 0.06 if harmful and track is Track.CANARY else 0.01
            errors = sum(random.random() < chance for _ in range(requests))
            latency = [0] * len(LE_MS)
            for _ in range(requests - errors):
                latency[min(max(round(random.gauss(QUICK, 3)), 0), len(LE_MS) - 1)] += 1
            seen[track][0] += requests
            seen[track][1] += errors
            tracks[track] = TrackWindow(requests, errors, 0, tuple(latency), seen[track][1], seen[track][0])
        yield JudgedWindow(at_s, seconds, number // 70, (5, 33, 60)[number // 70], tracks)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("harmful", [False, True])
def test_a_restored_judge_says_what_the_dumped_one_says(seed: int, harmful: bool) -> None:
    judge, restored = Judge(LE_MS), Judge(LE_MS)
    for number, window in enumerate(random_windows(seed, harmful)):
        judge.add(window)
        restored.add(window)
        if number % 9 == 0:
            restored = Judge.restored(json.loads(json.dumps(restored.dump())))
    last = Judge.restored(json.loads(json.dumps(judge.dump())))

    assert judge.dump() == restored.dump()
    assert judge.at_gate(last=True) == restored.at_gate(last=True) == last.at_gate(last=True)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("harmful", [False, True])
def test_capitals_are_never_negative_and_scores_between_0_and_100(seed: int, harmful: bool) -> None:
    judge = Judge(LE_MS)
    for window in random_windows(seed, harmful):
        judge.add(window)
        verdict = judge.verdict()
        assert min(each.capital for each in verdict.harms) > 0
        assert 0 <= verdict.score <= 100
        assert (verdict.result is FAIL) == judge.failed == (verdict.score == 0)
        if verdict.result is PASS:
            doubted = [each for each in verdict.harms if each.capital >= Margins().doubt]
            assert all(each.effect is not None and each.effect < each.margin for each in doubted)


@pytest.mark.parametrize("seed", range(3))
def test_the_verdict_does_not_depend_on_the_unit_of_latency(seed: int) -> None:
    one, thousand = Judge(LE_MS), Judge([bound and 1000 * bound for bound in LE_MS])
    for window in random_windows(seed, harmful=False):
        one.add(window)
        thousand.add(window)

    capitals = [[each.capital for each in judge.verdict().harms] for judge in (one, thousand)]
    assert capitals[0] == pytest.approx(capitals[1], rel=1e-6)


def test_a_dump_does_not_grow_with_the_length_of_the_rollout() -> None:
    rollout = Rollout()

    def size() -> int:
        return len(json.dumps(rollout.judge.dump()))

    for step in range(20):
        rollout.step = step
        rollout.healthy(12, 100, 200)
    all_steps = size()
    for _ in range(3000):
        rollout.window((1, 0), (2, 0))

    assert size() < 1.3 * all_steps < 40_000


def test_a_dump_of_another_version_or_other_bets_is_refused() -> None:
    dumped = Judge(LE_MS).dump()
    lanes = dumped["lanes"]
    assert isinstance(lanes, dict)

    for other in (dumped | {"version": 0}, dumped | {"lanes": {}}, {}, dumped | {"lanes": lanes | {"latency": None}}):
        with pytest.raises(ValueError, match=r"another version|validation error"):
            Judge.restored(other)


def test_windows_with_other_buckets_are_refused_and_without_latency_are_not() -> None:
    judge = Judge(LE_MS)
    judge.add(JudgedWindow(2, 2, 0, 33, {Track.STABLE: TrackWindow(5)}))

    with pytest.raises(ValueError, match="3 latency buckets, not 61"):
        judge.add(JudgedWindow(4, 2, 0, 33, {Track.CANARY: TrackWindow(3, latency=(1, 1, 1))}))
    assert judge.verdict().requests == {Track.CANARY: 0, Track.STABLE: 5}
