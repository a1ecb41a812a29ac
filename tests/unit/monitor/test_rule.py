"""Thresholds with hysteresis, and the rules that are there by default."""

import pytest
from pydantic import ValidationError

from services.monitor.rule import DEFAULTS, Metric, Reading, Rule, RuleBody, is_breaching


@pytest.mark.parametrize(
    ("value", "firing", "breaching"),
    [
        (0.5, False, True),
        (0.49, False, False),
        (0.3, False, False),
        (0.3, True, True),  # between clear and threshold nothing changes
        (0.2, True, False),
        (0.0, True, False),
        (None, False, None),
        (None, True, None),
    ],
)
def test_a_figure_is_judged_by_threshold_and_clear(value: float | None, firing: bool, breaching: bool | None) -> None:
    rule = Rule(name="r", metric=Metric.MEMORY, threshold=0.5, clear=0.2)
    assert is_breaching(rule, Reading(value, ""), firing) is breaching


def test_clear_is_half_of_the_threshold_if_it_is_not_given() -> None:
    rule = Rule(name="r", metric=Metric.CPU, threshold=80)
    assert [is_breaching(rule, Reading(value, ""), firing=True) for value in (41, 40)] == [True, False]


def test_a_clear_above_the_threshold_is_refused() -> None:
    with pytest.raises(ValidationError, match="lower clear"):
        RuleBody(metric=Metric.CPU, threshold=50, clear=50)


def test_errors_health_and_silence_abort_by_default_and_at_once() -> None:
    assert {rule.metric for rule in DEFAULTS.values()} == {Metric.ERROR_SHARE, Metric.HEALTH, Metric.NO_SAMPLES}
    assert all(rule.aborts and rule.enabled and rule.for_s == 0 for rule in DEFAULTS.values())
