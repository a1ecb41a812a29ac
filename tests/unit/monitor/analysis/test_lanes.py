"""The lanes' evidence: bets that are fair, and capital that grows no faster than it may."""

import math
from collections.abc import Sequence
from itertools import pairwise
from random import Random

import pytest

from services.monitor.analysis.judge import CLIENT_ODDS, GROSS_PAIRS, MUCH_SLOWER_ODDS, ODDS, SLOWER_ODDS
from services.monitor.analysis.lanes.error_lane import AssignedShare, ErrorBets, OutageBet
from services.monitor.analysis.lanes.histogram import Buckets, moved
from services.monitor.analysis.lanes.lane import CASH, MOST, Lane
from services.monitor.analysis.lanes.latency_lane import TAILS, LatencyBets, ReferenceHistogram
from services.monitor.analysis.lanes.margins import LaneMargins

FREE = LaneMargins(handicap=0, harm=0, growth=1e6, growth_s=2)
BUCKETS = Buckets([10, 20, 40, 80, None])


def expected_error_factors(bets: ErrorBets, share: float, canary: float, stable: float) -> list[float]:
    """Returns each bet's expected factor in one request, whose track and fate are enumerated."""
    fates = (
        (share * canary, bets.log_ratios(share, 1, 1, 0, 0)),
        (share * (1 - canary), bets.log_ratios(share, 1, 0, 0, 0)),
        ((1 - share) * stable, bets.log_ratios(share, 0, 0, 1, 1)),
        ((1 - share) * (1 - stable), bets.log_ratios(share, 0, 0, 1, 0)),
    )
    return [sum(chance * math.exp(each[bet]) for chance, each in fates) for bet in range(len(bets))]


@pytest.mark.parametrize("share", [0.05, 0.33, 0.95])
@pytest.mark.parametrize("errors", [0.0, 0.001, 0.1, 0.9, 1.0])
def test_bets_on_errors_are_fair_if_both_tracks_fail_alike(share: float, errors: float) -> None:
    bets = ErrorBets(0.0, ODDS, GROSS_PAIRS)

    assert expected_error_factors(bets, share, errors, errors) == pytest.approx([1.0] * len(bets))


@pytest.mark.parametrize("share", [0.05, 0.33, 0.95])
@pytest.mark.parametrize("handicap", [0.001, 0.05])
@pytest.mark.parametrize("errors", [0.0, 0.01, 0.3])
def test_bets_on_errors_do_not_win_while_the_canary_is_worse_by_the_handicap(
    share: float, handicap: float, errors: float
) -> None:
    bets = ErrorBets(handicap, (*ODDS, *CLIENT_ODDS), GROSS_PAIRS)
    worse = errors + handicap * (1 - errors)

    assert max(expected_error_factors(bets, share, worse, errors)) <= 1 + 1e-9
    assert max(expected_error_factors(bets, share, min(worse + 0.2, 1.0), errors)) > 1


def test_each_bet_on_errors_counts_as_the_formula_says() -> None:
    share, ratio = 0.25, 5.0
    mean = 1 + share * (ratio - 1)
    low, high = 0.02, 0.5
    pair_mean = share * high + (1 - share) * low

    odds, pair = ErrorBets(0.0, (ratio,), ((low, high),)).log_ratios(share, 7, 3, 20, 2)

    assert odds == pytest.approx(3 * math.log(ratio / mean) - 2 * math.log(mean))
    assert pair == pytest.approx(
        3 * math.log(high / pair_mean)
        + 4 * math.log((1 - high) / (1 - pair_mean))
        + 2 * math.log(low / pair_mean)
        + 18 * math.log((1 - low) / (1 - pair_mean))
    )


def test_an_outage_is_bet_on_without_production_and_not_against_a_production_that_fails_too() -> None:
    alone, both, healthy = OutageBet(), OutageBet(), OutageBet()

    assert alone.log_ratio(5, 5, 0, 0, 2, 0.5) == pytest.approx(5 * math.log(0.95 / 0.5))
    assert both.log_ratio(5, 5, 1, 1, 2, 0.5) == 0.0
    assert healthy.log_ratio(5, 4, 9, 0, 2, 0.5) == pytest.approx(4 * math.log(0.95 / 0.5) + math.log(0.05 / 0.5))


def test_an_outage_of_production_is_forgotten_after_some_minutes_without_requests() -> None:
    bet = OutageBet()

    assert bet.log_ratio(1, 1, 1, 1, 2, 0.5) == 0.0
    assert bet.log_ratio(1, 1, 0, 0, 300, 0.5) > 0.0


def test_the_share_is_the_weight_until_200_requests_have_measured_it() -> None:
    share = AssignedShare()

    assert share.add(0, 33, 0, 0) == pytest.approx(0.33)
    assert share.add(0, 33, 50, 50) == pytest.approx((50 + 100 * 0.33) / 200)
    assert share.add(0, 33, 50, 50) == pytest.approx(0.5)
    assert share.add(0, 33, 20, 180) == pytest.approx(0.1)
    assert share.add(1, 60, 0, 0) == pytest.approx(0.6)
    assert len(share.windows) == 0


def expected_latency_factors(
    bets: LatencyBets, share: float, canary: Sequence[float], stable: Sequence[float]
) -> list[float]:
    """Returns each bet's expected factor in one request, whose track and bucket are enumerated."""
    factors = [0.0] * len(bets)
    for bucket, (mine, other) in enumerate(zip(canary, stable, strict=True)):
        for chance, ratios in (
            (share * mine, bets.log_ratios({bucket: 1}, {})),
            ((1 - share) * other, bets.log_ratios({}, {bucket: 1})),
        ):
            factors = [total + chance * math.exp(ratio) for total, ratio in zip(factors, ratios, strict=True)]
    return factors


REFERENCES = ([50.0, 30, 15, 4, 1], [0.0, 0, 0, 0, 0], [0.0, 100, 0, 0, 0])
STABLE = (0.5, 0.3, 0.15, 0.04, 0.01)


@pytest.mark.parametrize("share", [0.05, 0.33, 0.95])
@pytest.mark.parametrize("reference", REFERENCES)
def test_bets_on_latency_are_fair_whatever_the_reference(share: float, reference: list[float]) -> None:
    bets = LatencyBets(BUCKETS, 0.0, SLOWER_ODDS, TAILS)
    bets.prepare(reference, share)

    assert expected_latency_factors(bets, share, STABLE, STABLE) == pytest.approx([1.0] * len(bets))


@pytest.mark.parametrize("reference", REFERENCES)
@pytest.mark.parametrize("handicap", [0.03, 0.3])
def test_bets_on_latency_do_not_win_while_the_canary_is_slower_by_the_handicap(
    reference: list[float], handicap: float
) -> None:
    bets = LatencyBets(BUCKETS, handicap, SLOWER_ODDS, TAILS)
    bets.prepare(reference, 0.33)
    slowed = moved(STABLE, BUCKETS.moves(handicap))

    assert max(expected_latency_factors(bets, 0.33, slowed, STABLE)) <= 1 + 1e-9
    assert max(expected_latency_factors(bets, 0.33, STABLE, STABLE)) <= 1 + 1e-9
    assert min(expected_latency_factors(bets, 0.33, STABLE, STABLE)) < 1


def test_the_bets_on_a_slower_canary_win_if_it_is() -> None:
    bets = LatencyBets(BUCKETS, 0.3, MUCH_SLOWER_ODDS)
    bets.prepare([50, 30, 15, 4, 1], 0.33)

    assert max(expected_latency_factors(bets, 0.33, (0.05, 0.2, 0.3, 0.3, 0.15), STABLE)) > 1.05


def test_the_reference_forgets_half_in_five_minutes() -> None:
    reference = ReferenceHistogram.empty(3)
    reference.add({1: 8}, 2)
    reference.fold()
    reference.add({2: 1}, 300)
    reference.fold()

    assert reference.counts == pytest.approx([0, 4, 1])


def test_buckets_give_the_quantiles_of_requests_that_are_spread_evenly_on_a_logarithmic_scale() -> None:
    assert BUCKETS.quantile([0, 10, 0, 0, 0], 0.5) == pytest.approx(10 * math.sqrt(2))
    assert BUCKETS.quantile([5, 0, 5, 0, 0], 0.75) == pytest.approx(20 * math.sqrt(2))
    assert BUCKETS.quantile([0, 0, 0, 0, 4], 0.25) == pytest.approx(80 * 2**0.25)
    assert BUCKETS.quantile([0] * 5, 0.5) is None
    assert BUCKETS.quantile([1] * 5, 1.0) is None


def test_slower_requests_move_to_the_buckets_above() -> None:
    assert moved([1, 2, 3, 4, 5], BUCKETS.moves(1.0)) == pytest.approx([0, 1, 2, 3, 9])
    assert moved([1, 0, 0, 0, 0], BUCKETS.moves(math.sqrt(2) - 1)) == pytest.approx([0.5, 0.5, 0, 0, 0])
    assert moved([1, 2, 3, 4, 5], BUCKETS.moves(0.0)) == pytest.approx([1, 2, 3, 4, 5])


@pytest.mark.parametrize("bounds", [[None], [10.0, None], [20.0, 10.0, None], [10.0, 20.0, 30.0], [10.0, None, 20.0]])
def test_bounds_that_do_not_ascend_to_null_are_refused(bounds: list[float | None]) -> None:
    with pytest.raises(ValueError, match="must ascend, and end with null"):
        Buckets(bounds)


def test_a_lane_that_loses_all_its_bets_keeps_its_cash_and_recovers() -> None:
    lane = Lane.of(2, FREE)
    for _ in range(50):
        lane.add([-50.0, -1000.0], 2, FREE)

    assert min(lane.held) >= 0
    assert lane.capital == pytest.approx(CASH, rel=0.1)

    lane.add([12.0, 0.0], 2, FREE)
    assert lane.capital > 1


def test_a_lane_without_a_limit_multiplies_each_part_by_its_factor() -> None:
    lane = Lane.of(2, FREE)
    lane.add([math.log(3), math.log(0.5)], 2, FREE)

    assert lane.capital == pytest.approx(0.2 + 0.4 * 3 + 0.4 * 0.5, rel=0.01)


@pytest.mark.parametrize("seconds", [2.0, 1.0, 6.0])
def test_capital_grows_by_no_more_than_its_limit_over_any_time(seconds: float) -> None:
    margins = LaneMargins(handicap=0, harm=0, growth=10, growth_s=10)
    random, lane, at_s = Random(1), Lane.of(1, margins), 0.0
    history = [(0.0, lane.capital)]
    for _ in range(300):
        at_s += seconds
        lane.add([random.choice([-2.0, -0.5, 0.1, 5.0])], seconds, margins)
        history.append((at_s, lane.capital))

    for first, (from_s, before) in enumerate(history):
        for to_s, after in history[first + 1 :]:
            # a full allowance at the beginning, and what is added since
            assert after <= max(before, 1.0) * 10 ** (1 + (to_s - from_s) / 10) * (1 + 1e-9)
    assert max(after / before for (_, before), (_, after) in pairwise(history)) > 5


def test_a_long_window_may_grow_as_much_as_several_short_ones() -> None:
    margins = LaneMargins(handicap=0, harm=0, growth=10, growth_s=2)
    long, short = Lane.of(1, margins), Lane.of(1, margins)
    long.add([1000.0], 4, margins)
    for _ in range(2):
        short.add([1000.0], 2, margins)

    assert long.capital == pytest.approx(100)
    assert short.capital == pytest.approx(100)


def test_capital_has_an_end() -> None:
    lane = Lane.of(1, FREE)
    for _ in range(10):
        lane.add([1000.0], 2, FREE)

    assert lane.capital == pytest.approx(MOST)


def test_chance_reaches_100_in_at_most_one_run_of_a_hundred() -> None:
    """The capital is looked at after each of 200 windows, in 150 runs with the same share of errors on both tracks."""
    random, bets, reached = Random(7), ErrorBets(0.0, ODDS), 0
    margins = LaneMargins(handicap=0, harm=0, growth=10, growth_s=10)
    for _ in range(150):
        lane = Lane.of(len(bets), margins)
        for _ in range(200):
            canary = sum(random.random() < 0.02 for _ in range(3))
            stable = sum(random.random() < 0.02 for _ in range(6))
            lane.add(bets.log_ratios(1 / 3, 3, canary, 6, stable), 2, margins)
            if lane.capital >= 100:
                reached += 1
                break

    assert reached <= 2
