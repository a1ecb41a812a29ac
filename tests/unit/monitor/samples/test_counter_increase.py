"""Counters that instances pass on to those that replace them."""

from datetime import UTC, datetime, timedelta

import pytest

from services.monitor.samples.counter_increase import CounterIncrease

AT = datetime(2026, 1, 1, tzinfo=UTC)
KEPT = timedelta(minutes=10)


def at(seconds: float) -> datetime:
    return AT + timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("readings", "expected"),
    [
        ([{"a": 7}], 0),  # happened before anyone looked
        ([{"a": 7}, {"a": 7}], 0),
        ([{"a": 7}, {"a": 9}], 2),  # the same instance counts on
        ([{"a": 0}, {}, {"b": 1}], 1),  # replaced
        ([{"a": 0}, {"b": 1}, {"c": 2}, {"d": 3}], 3),
        ([{"a": 4}, {}, {}, {"d": 7}], 3),  # two came and went between the looks
        ([{"a": 0, "b": 0}, {"a": 0, "c": 1}, {"d": 1, "c": 1}], 2),  # two replicas, each once
        ([{"a": 0, "b": 5}, {"b": 5, "c": 1}], 1),  # not in place of b
        ([{"a": 0}, {"a": 0, "b": 0}, {"b": 0}], 0),  # scaled up and down
        ([{"a": 2}, {"a leaves": 2, "b": 2}, {"b": 2}], 0),  # replaced without a fault
        ([{"a": 2}, {"a": 2, "b": 2}], 1),  # not in place of a, which stays
        ([{"a": 1, "c": 2}, {}, {"b": 2}], 1),  # in place of a rather than of c
        ([{"a": 0}, {"d": 3}, {"d": 3, "f": 2}], 4),  # a was replaced once already
        ([{}, {"a": 3}], 1),  # at least its own
        ([{"a": 3}, {"a": 1}], 0),
    ],
)
def test_growth_over_some_looks(readings: list[dict[str, int]], expected: int) -> None:
    increase = CounterIncrease(KEPT)
    for second, counts in enumerate(readings):
        leaving = {name[0] for name in counts if name.endswith("leaves")}
        increase.record({name[0]: count for name, count in counts.items()}, at(second), leaving)
    assert increase.within(KEPT, at(len(readings))) == expected


def test_growth_is_forgotten_with_time() -> None:
    increase = CounterIncrease(KEPT)
    for second, count in ((0, 0), (10, 1), (100, 3)):
        increase.record({"a": count}, at(second))
    assert increase.within(timedelta(seconds=60), at(100)) == 2
    assert increase.within(KEPT, at(609)) == 3
    assert increase.within(KEPT, at(610)) == 2
    increase.record({"a": 3}, at(701))
    assert increase.within(timedelta(days=1), at(701)) == 0


def test_it_names_the_instance_that_ended() -> None:
    increase = CounterIncrease(KEPT)
    assert increase.record({"a": 0}, at(0)) == []
    assert increase.record({"b": 1}, at(2)) == ["a"]
    assert increase.record({"b": 2}, at(4)) == ["b"]
