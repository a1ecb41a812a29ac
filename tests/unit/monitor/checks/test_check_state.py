"""A check fails a canary only by what it says: a bound that is broken several times in a row, or a no."""

from datetime import timedelta

import pytest

from services.monitor.checks.analysis_settings import AnalysisSettings, OwnMetric
from services.monitor.checks.check_state import (
    CheckKind,
    CheckResult,
    CheckState,
    answered,
    is_to_be_told,
    measured,
    new_states,
    unanswered,
)
from tests.support.monitor.analysed import AT

METRIC = OwnMetric(name="rate", url="https://x.example.com/", at_least=0.95)
ERROR = None


def after(*values: float | None) -> CheckState:
    """Returns the state of the metric after these values, 10 s apart; None stands for an error."""
    state = CheckState(name="rate", kind=CheckKind.METRIC)
    for place, value in enumerate(values):
        now = AT + timedelta(seconds=10 * place)
        state = unanswered(state, "answered 503", now) if value is ERROR else measured(state, METRIC, value, now)
    return state


@pytest.mark.parametrize(
    ("values", "result"),
    [
        ((), CheckResult.UNKNOWN),
        ((0.99,), CheckResult.PASS),
        ((0.5,), CheckResult.BEYOND),
        ((0.5, 0.5), CheckResult.BEYOND),
        ((0.5, 0.5, 0.5), CheckResult.FAIL),
        ((0.5, 0.5, 0.99), CheckResult.PASS),
        ((0.5, 0.5, 0.99, 0.5, 0.5), CheckResult.BEYOND),
        ((0.5, 0.5, ERROR), CheckResult.ERROR),
        ((0.5, ERROR, 0.5, ERROR, 0.5), CheckResult.FAIL),
        ((0.5, 0.5, 0.5, 0.99), CheckResult.FAIL),
        ((0.5, 0.5, 0.5, ERROR), CheckResult.FAIL),
        ((ERROR,) * 100, CheckResult.ERROR),
    ],
)
def test_a_metric_fails_after_three_checks_in_a_row_beyond_its_bound(
    values: tuple[float | None, ...], result: CheckResult
) -> None:
    assert after(*values).result is result


def test_the_reason_names_value_and_bound() -> None:
    assert after(0.5, 0.91, 0.9).reason == "0.9 is below 0.95, 3 times in a row"
    assert after(0.91).reason == "0.91 is below 0.95, once in a row of 3"


def test_an_error_is_told_at_the_fourth_try_and_not_again_until_it_answered() -> None:
    told = [number for number in range(1, 12) if is_to_be_told(after(*(ERROR,) * number))]
    assert told == [4]
    assert is_to_be_told(after(*(ERROR,) * 6, 0.99, *(ERROR,) * 4))


@pytest.mark.parametrize(
    ("values", "hold"),
    [
        ((), "it was not called yet"),
        ((0.99,), None),
        ((0.5,), "0.5 is below 0.95, once in a row of 3"),
        ((0.99, ERROR), "answered 503"),
    ],
)
def test_only_a_passing_check_lets_a_step_end(values: tuple[float | None, ...], hold: str | None) -> None:
    assert after(*values).hold(AT + timedelta(seconds=10)) == hold


def test_an_old_answer_lets_no_step_end() -> None:
    assert after(0.99).hold(AT + timedelta(seconds=31)) == "its last answer is too old"


def test_a_hook_that_says_no_fails_at_once_and_is_not_called_again() -> None:
    state = answered(CheckState(name="smoke", kind=CheckKind.DURING), "no stock", AT)
    assert (state.result, state.reason) == (CheckResult.FAIL, "it says no: no stock")
    assert not state.is_due(AT + timedelta(days=1))


@pytest.mark.parametrize(
    ("kind", "passes", "due_after_s"),
    [
        (CheckKind.METRIC, True, 10),
        (CheckKind.DURING, True, 60),
        (CheckKind.DURING, False, 10),
        (CheckKind.BEFORE, False, 10),
    ],
)
def test_each_check_has_its_interval(kind: CheckKind, passes: bool, due_after_s: int) -> None:
    new = CheckState(name="x", kind=kind)
    state = measured(new, METRIC, 1.0, AT) if kind is CheckKind.METRIC else answered(new, None, AT)
    state = state if passes else unanswered(new, "answered 503", AT)

    assert new.is_due(AT)
    assert not state.is_due(AT + timedelta(seconds=due_after_s - 1))
    assert state.is_due(AT + timedelta(seconds=due_after_s))


def test_a_hook_before_is_called_until_it_passes_and_its_pass_lasts() -> None:
    passed = answered(CheckState(name="x", kind=CheckKind.BEFORE), None, AT)
    assert not passed.is_due(AT + timedelta(days=1))
    assert passed.hold(AT + timedelta(days=1)) is None


def test_hooks_after_are_no_check_of_a_step() -> None:
    hooks = [{"name": when, "url": "https://x.example.com/", "when": when} for when in ("before", "during", "after")]
    settings = AnalysisSettings.model_validate({"app": "notes", "metrics": [METRIC], "hooks": hooks, "set_at": AT})
    assert sorted(new_states(settings)) == ["before:before", "during:during", "metric:rate"]
