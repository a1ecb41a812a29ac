import math

import pytest

from services.build.gates.gate import (
    OFFENDERS_KEPT,
    GateResult,
    effective,
    evaluate,
    judge,
    minimum,
    number,
    refusal,
)
from services.build.reports.metric import Measure, Offender
from shared.manifest import Gates


@pytest.mark.parametrize(
    ("name", "threshold", "figure", "passes"),
    [
        ("coverage", 70, 70, True),
        ("coverage", 70, 69.999, False),
        ("coverage", 0, None, False),
        ("coverage", 0, math.nan, False),
        ("test_failures", 0, 0, True),
        ("test_failures", 0, 1, False),
        ("complexity", 15, math.nan, False),
        ("complexity", 15, 15, True),
        ("secrets", 0, None, False),
    ],
)
def test_a_gate_passes_only_on_a_figure_within_it(
    name: str, threshold: float, figure: float | None, passes: bool
) -> None:
    result = judge(name, threshold, Measure(figure, "was cut off"))
    assert result.passed is passes
    assert ("no readable figure" in result.reason) is (figure is None or math.isnan(figure))


def test_what_is_asked_for_and_not_reported_fails() -> None:
    [result] = evaluate(Gates(coverage=10), {})
    assert (result.passed, result.reason) == (False, "no readable figure: no step reports it")


def test_a_shown_figure_never_looks_better_than_it_is() -> None:
    assert judge("coverage", 70, Measure(69.999)).reason == "69.99, at least 70"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (79.99, "79.99"),
        (0.29, "0.29"),
        (69.999, "69.99"),
        (4.5, "4.5"),
        (70, "70"),
        (100.0, "100"),
        (1e15, "1000000000000000"),
    ],
)
def test_a_figure_is_shown_with_its_own_decimals(value: float, shown: str) -> None:
    assert number(value) == shown


def test_the_refusal_names_each_gate_that_said_no() -> None:
    key = Offender(file="a.py", line=3, message="a key")
    results = evaluate(Gates(coverage=10, secrets=0), {"coverage": Measure(50), "secrets": Measure(1, "", (key,))})
    assert refusal(results) == "gate secrets: 1, at most 0 (a.py:3 a key)"


@pytest.mark.parametrize(
    ("name", "figure", "previous", "trend"),
    [
        ("coverage", 70, 60, "better"),
        ("coverage", 60, 70, "worse"),
        ("complexity", 9, 12, "better"),
        ("complexity", 12, 9, "worse"),
        ("complexity", 9, 9, "same"),
        ("complexity", 9, None, None),
        ("complexity", None, 9, None),
    ],
)
def test_the_trend_knows_which_way_is_better(
    name: str, figure: float | None, previous: float | None, trend: str | None
) -> None:
    result = judge(name, 50, Measure(figure), previous)
    assert (result.trend, result.previous) == (trend, previous)
    assert result.model_dump(mode="json")["trend"] == trend


def test_a_result_says_what_it_is_made_of_also_where_it_passes() -> None:
    offenders = tuple(Offender(file="a.py", line=line) for line in range(100))
    result = judge("complexity", 15, Measure(9, offenders=offenders))
    assert (result.passed, result.unit, result.bound) == (True, "", "at most")
    assert result.offenders == list(offenders[:OFFENDERS_KEPT])
    assert judge("coverage", 70, Measure(9)).unit == "%"


def test_a_result_that_was_stored_with_offenders_as_text_is_read() -> None:
    stored = '{"name": "secrets", "passed": false, "offenders": ["a.py:3 a key"]}'
    assert GateResult.model_validate_json(stored).offenders == [Offender(message="a.py:3 a key")]


def test_the_app_may_loosen_the_platform() -> None:
    assert minimum(Gates(complexity=40)).complexity == 40
    assert minimum(Gates()).complexity == 15


@pytest.mark.parametrize(
    ("app", "manifest", "tested", "expected"),
    [
        (Gates(), Gates(), False, None),
        (Gates(), Gates(), True, 0),
        (Gates(), Gates(test_failures=0), False, 0),
        (Gates(test_failures=2), Gates(), False, 2),
    ],
)
def test_failures_are_judged_where_there_are_tests(
    app: Gates, manifest: Gates, tested: bool, expected: int | None
) -> None:
    assert effective(app, manifest, tested=tested).test_failures == expected
