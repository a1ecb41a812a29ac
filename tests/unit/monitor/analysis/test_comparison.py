"""Formulas over strata, and bounds, against values that are computed in another way."""

import math
from itertools import combinations
from random import Random

import pytest

from services.monitor.analysis.bounds import agresti_caffo, slow_down_bound
from services.monitor.analysis.comparison import MantelHaenszel, VanElteren, binomial_tail
from services.monitor.analysis.lanes.histogram import Buckets
from services.monitor.analysis.sections import ReweightedLatency, Section
from services.monitor.analysis.strata import PairSums, StratifiedTests, TrackSums

FINE = Buckets([*(1.1**bucket for bucket in range(80)), None])


def test_the_difference_of_strata_is_weighted_by_their_size() -> None:
    total = MantelHaenszel()
    total.add(4, 10, 3, 30)  # 0.4 - 0.1, weight 10 * 30 / 40
    total.add(0, 20, 10, 20)  # 0 - 0.5, weight 20 * 20 / 40
    total.add(5, 5, 0, 0)  # production without requests says nothing

    assert total.difference() == pytest.approx((7.5 * 0.3 - 10 * 0.5) / 17.5)

    total.add(0, 20, 10, 20, sign=-1)
    assert total.difference() == pytest.approx(0.3)
    assert MantelHaenszel().difference() is None


def test_a_rise_for_both_tracks_is_no_difference_even_if_the_share_changes_with_it() -> None:
    total = MantelHaenszel()
    total.add(1, 100, 19, 1900)
    total.add(60, 600, 40, 400)

    assert total.difference() == pytest.approx(0)


def test_van_elteren_is_the_rank_test_that_all_orders_of_the_requests_give() -> None:
    """Takes mean and variance of the rank sum over all ways to pick the canary's requests, instead of the formulas."""
    strata = [((1, 0, 2, 1), (3, 2, 0, 0)), ((0, 2, 0, 1), (2, 2, 1, 0))]
    score = variance = 0.0
    tested = VanElteren()
    for canary, stable in strata:
        tested.add(canary, stable)
        values = [bucket for bucket, count in enumerate(canary) for _ in range(count)]
        everyone = values + [bucket for bucket, count in enumerate(stable) for _ in range(count)]
        rank = {value: sum(other < value for other in everyone) + (everyone.count(value) + 1) / 2 for value in everyone}
        sums = [sum(rank[value] for value in chosen) for chosen in combinations(everyone, len(values))]
        mean = sum(sums) / len(sums)
        score += (sum(rank[value] for value in values) - mean) / (len(everyone) + 1)
        variance += sum((each - mean) ** 2 for each in sums) / len(sums) / (len(everyone) + 1) ** 2

    assert tested.score == pytest.approx(score)
    assert tested.variance == pytest.approx(variance)
    assert tested.z() == pytest.approx(score / math.sqrt(variance))

    tested.add(*strata[1], sign=-1)
    tested.add(*strata[0], sign=-1)
    assert tested.z() == 0


@pytest.mark.parametrize(
    ("successes", "of", "chance"), [(5, 10, 0.2), (10, 10, 0.33), (120, 1000, 0.1), (3, 400, 1e-3)]
)
def test_the_tail_is_the_sum_of_the_binomial_probabilities(successes: int, of: int, chance: float) -> None:
    exact = sum(math.comb(of, k) * chance**k * (1 - chance) ** (of - k) for k in range(successes, of + 1))

    assert binomial_tail(successes, of, chance) == pytest.approx(exact)


def test_no_more_than_expected_has_a_tail_of_one() -> None:
    assert binomial_tail(2, 10, 0.2) == 1.0
    assert binomial_tail(0, 0, 0.2) == 1.0


def test_the_bound_of_errors_adds_one_success_and_one_failure_to_each_track() -> None:
    mine, other = (3 + 1) / (100 + 2), (2 + 1) / (200 + 2)
    deviation = math.sqrt(mine * (1 - mine) / 102 + other * (1 - other) / 202)

    assert agresti_caffo(3, 100, 2, 200) == pytest.approx(mine - other + 1.645 * deviation)


def test_the_bound_of_errors_holds_in_nineteen_of_twenty_samples() -> None:
    random, held = Random(3), 0
    for _ in range(400):
        canary = sum(random.random() < 0.05 for _ in range(150))
        stable = sum(random.random() < 0.03 for _ in range(300))
        held += agresti_caffo(canary, 150, stable, 300) >= 0.02

    assert held / 400 >= 0.93


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_the_bound_of_the_slow_down_holds_in_nineteen_of_twenty_samples(share: float) -> None:
    random, held = Random(5), 0

    def sample(count: int, middle: float) -> list[int]:
        counts = [0] * len(FINE)
        for _ in range(count):
            value = random.lognormvariate(math.log(middle), 0.5)
            counts[next(bucket for bucket, high in enumerate(FINE.highs) if value <= high)] += 1
        return counts

    for _ in range(150):
        bound = slow_down_bound(ReweightedLatency(sample(100, 120), 100, sample(200, 100), 200), share, FINE)
        held += bound is not None and bound >= 0.2

    assert held / 150 >= 0.93


def test_the_bound_of_the_slow_down_is_woodruffs() -> None:
    """Requests that are spread evenly over the logarithm have quantiles that can be written down."""
    buckets = Buckets([math.exp(bucket) for bucket in range(1, 11)] + [None])
    even = [10] * 10 + [0]  # the quantile q of 100 requests is exp(10 q)
    below, above = 0.5 - 1.645 * 0.5 / 10, 0.5 + 1.645 * 0.5 / 10
    bound = slow_down_bound(ReweightedLatency(even, 100, even, 100), 0.5, buckets)

    assert bound is not None
    assert math.log(1 + bound) == pytest.approx(math.hypot(10 * (above - 0.5), 10 * (0.5 - below)))


def test_the_bound_of_the_slow_down_is_unknown_for_few_and_wide_for_alike_requests() -> None:
    even = [10] * 10 + [0]
    buckets = Buckets([2.0**bucket for bucket in range(10)] + [None])

    def bound(canary: list[int], stable: list[int], design_effect: float = 1.0) -> float:
        found = slow_down_bound(
            ReweightedLatency(canary, sum(canary), stable, sum(stable)), 0.5, buckets, design_effect
        )
        assert found is not None
        return found

    assert slow_down_bound(ReweightedLatency([1], 1, [1], 1), 0.9, Buckets([1.0, 2.0, None])) is None
    assert bound(even, even, design_effect=4) > bound(even, even) > bound([10 * count for count in even], even)


def test_where_a_bucket_holds_most_requests_nothing_smaller_than_buckets_is_known() -> None:
    heap = [0, 100, 0, 0, 0]
    wide, narrow = Buckets([10, 20, 40, 80, None]), Buckets([10, 11.5, 13.2, 15.2, None])

    assert slow_down_bound(ReweightedLatency(heap, 100, heap, 100), 0.5, wide) == pytest.approx(1.0)
    assert slow_down_bound(ReweightedLatency(heap, 100, heap, 100), 0.5, narrow) == pytest.approx(0.15)


def step(canary: int, canary_errors: int, stable: int, stable_errors: int, latency: bool = True) -> PairSums:
    mine, others = ([0, canary], [0, stable]) if latency else ([0, 0], [0, 0])
    return PairSums(TrackSums(mine, canary, canary_errors), TrackSums(others, stable, stable_errors))


def test_production_is_weighted_as_the_canary_over_the_steps() -> None:
    section = Section(StratifiedTests(), [step(100, 1, 1900, 19), step(600, 60, 400, 40), step(50, 50, 0, 0)])
    errors, latency = section.errors, section.latency

    assert errors is not None
    assert (errors.canary, errors.canary_of) == (61.0, 700.0)
    assert errors.stable / errors.stable_of == pytest.approx(61 / 700)
    assert errors.stable_of == pytest.approx(1 / ((1 / 7) ** 2 / 1900 + (6 / 7) ** 2 / 400))
    assert latency is not None
    assert sum(latency.stable) == pytest.approx(latency.stable_of)


def test_one_step_is_not_reweighted_and_none_without_production_compares() -> None:
    only = Section(StratifiedTests(), [step(100, 1, 200, 2)])
    assert only.errors is not None
    assert only.errors.stable == pytest.approx(2)
    assert only.errors.stable_of == pytest.approx(200)

    alone = Section(StratifiedTests(), [step(100, 1, 0, 0)])
    assert alone.errors is None
    assert alone.latency is None
    assert Section(StratifiedTests(), [step(100, 1, 200, 2, latency=False)]).latency is None
