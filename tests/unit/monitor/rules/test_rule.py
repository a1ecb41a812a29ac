"""Thresholds with hysteresis, and the rules that are there by default."""

from typing import Any

import pytest
from pydantic import ValidationError

from services.monitor.rules.rule import DEFAULTS, Metric, Reading, Rule, RuleBody, is_breaching
from shared.models import Environment


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


def test_what_is_there_by_default() -> None:
    by_name = {
        name: (rule.metric, rule.threshold, rule.clear, rule.for_s, rule.environment, rule.aborts)
        for name, rule in DEFAULTS.items()
    }
    assert by_name == {
        "analysis": (Metric.ANALYSIS, 1, None, 0, Environment.CANARY, True),
        "errors": (Metric.ERROR_SHARE, 0.05, 0.02, 0, Environment.PRODUCTION, False),
        "health": (Metric.HEALTH, 1, None, 0, None, True),
        "restarts": (Metric.RESTARTS, 3, None, 0, None, True),
        "cpu": (Metric.CPU, 90, 70, 120, None, True),
        "memory": (Metric.MEMORY, 0.9, 0.8, 30, None, False),
        "MemoryAtCap": (Metric.MEMORY_AT_CAP, 0.85, 0.7, 0, None, True),
        "samples": (Metric.NO_SAMPLES, 10, None, 0, None, True),
        "artifact": (Metric.ARTIFACT_LOST, 1, None, 0, None, False),
    }
    assert all(rule.enabled and rule.app is None for rule in DEFAULTS.values())


@pytest.mark.parametrize(
    ("scope", "concerned"),
    [
        ({}, True),
        ({"app": "notes"}, True),
        ({"app": "other"}, False),
        ({"environment": Environment.PRODUCTION}, True),
        ({"environment": Environment.CANARY}, False),
        ({"app": "other", "environment": Environment.PRODUCTION}, False),
        ({"enabled": False}, False),
    ],
)
def test_a_rules_scope(scope: dict[str, Any], concerned: bool) -> None:
    rule = Rule(name="r", metric=Metric.CPU, threshold=80, **scope)
    assert rule.concerns("notes", Environment.PRODUCTION) is concerned
