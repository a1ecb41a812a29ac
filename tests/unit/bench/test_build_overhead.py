"""The arithmetic of what the platform adds to a build."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bench.build_overhead import HEAD, Goals, Overhead, are_met, overhead, table

PUSHED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
GOALS = Goals(first_step_s=1.0, sealed_s=2.0)


def at(seconds: float) -> str:
    return (PUSHED + timedelta(seconds=seconds)).isoformat()


def build(*steps: tuple[float, float], sealed: float) -> dict[str, Any]:
    ran = [{"started_at": at(begin), "finished_at": at(end)} for begin, end in steps]
    return {"steps": ran, "sealed_at": at(sealed)}


def single_spaced(text: str) -> str:
    return " ".join(text.split())


def same(seconds: float, count: int = 1) -> list[Overhead]:
    return [Overhead(seconds, seconds, 2 * seconds, seconds / 2)] * count


def test_times_count_from_the_push() -> None:
    found = overhead(build((0.5, 0.75), (0.8, 0.9), (1.0, 1.25), sealed=1.5), PUSHED)
    assert found.first_step_s == pytest.approx(0.5)
    assert found.first_end_s == pytest.approx(0.75)
    assert found.sealed_s == pytest.approx(1.5)
    assert found.steps_s == pytest.approx(0.6)


def test_times_as_the_service_writes_them() -> None:
    ran = {"started_at": "2026-01-02T03:04:05.500000Z", "finished_at": "2026-01-02T03:04:06Z"}
    found = overhead({"steps": [ran], "sealed_at": "2026-01-02T03:04:07Z"}, PUSHED)
    assert (found.first_step_s, found.first_end_s, found.sealed_s) == (0.5, 1.0, 2.0)


def test_the_table_has_median_p90_max_and_goal() -> None:
    builds = [Overhead(each / 10, each / 10 + 1, each / 5, each / 20) for each in range(1, 12)]
    first, ended, sealed, inside, outside = table(builds, GOALS)
    assert single_spaced(HEAD) == "median p90 max goal"
    assert single_spaced(first) == "push → first step begins 0.60 s 1.00 s 1.10 s < 1 s"
    assert single_spaced(ended) == "push → first step has ended 1.60 s 2.00 s 2.10 s"
    assert single_spaced(sealed) == "push → sealed 1.20 s 2.00 s 2.20 s < 2 s"
    assert single_spaced(inside) == "of it in the steps 0.30 s 0.50 s 0.55 s"
    assert single_spaced(outside) == "of it outside them 0.90 s 1.50 s 1.65 s"


def test_one_slow_push_of_twenty_is_the_maximum_and_not_the_p90() -> None:
    first = table([*same(0.5, 18), *same(0.75), *same(3.0)], GOALS)[0]
    assert single_spaced(first) == "push → first step begins 0.50 s 0.75 s 3.00 s < 1 s"


def test_columns_stand_below_their_heads() -> None:
    first = table(same(0.5), GOALS)[0]
    assert len(first) == len(HEAD)
    assert first.index("0.50 s") + len("0.50 s") == HEAD.index("median") + len("median")


@pytest.mark.parametrize(
    ("seconds", "first_step", "sealed"),
    [
        (Overhead(0.9, 1, 1.9, 0), True, True),
        (Overhead(1.0, 1, 1.9, 0), False, True),
        (Overhead(0.9, 1, 2.0, 0), True, False),
    ],
)
def test_a_goal_that_is_missed_is_named(seconds: Overhead, first_step: bool, sealed: bool) -> None:
    lines = table([seconds], GOALS)
    assert ("missed" not in lines[0], "missed" not in lines[2]) == (first_step, sealed)
    assert are_met([seconds], GOALS) == (first_step and sealed)


def test_goals_are_for_the_medians() -> None:
    assert are_met([*same(0.5, 11), *same(5.0, 9)], GOALS)
    assert not are_met([*same(0.5, 9), *same(5.0, 11)], GOALS)
