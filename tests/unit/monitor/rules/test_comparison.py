"""Readings of a canary count against production's over the same seconds."""

import pytest

from services.monitor.rules.comparison import against_production
from services.monitor.rules.rule import DEFAULTS, Metric, Reading, Rule

LATENCY_MS = Rule(name="slow", metric=Metric.LATENCY_MS, threshold=500, aborts=True)
STRICT = Rule(name="strict", metric=Metric.LATENCY_MS, threshold=500, clear=499, aborts=True)
RULES = {**{rule.metric: rule for rule in DEFAULTS.values()}, Metric.LATENCY_MS: LATENCY_MS}


@pytest.mark.parametrize(
    ("metric", "canary", "inside", "near", "half"),
    [
        # the canary's value; production's: clearly inside the bound, near it, and half of the canary's
        (Metric.RESTARTS, 4, 1, 3, 2),
        (Metric.NO_SAMPLES, 12, 0, 8, 6),
        (Metric.CPU, 150, 60, 95, 75),
        (Metric.MEMORY, 0.95, 0.5, 0.92, None),
        (Metric.MEMORY_AT_CAP, 1.0, 0.0, 0.9, None),
        (Metric.LATENCY_MS, 700, 250, 600, 350),
    ],
)
def test_a_harm_that_production_has_too_counts_only_where_the_canary_is_much_worse(
    metric: Metric, canary: float, inside: float, near: float, half: float | None
) -> None:
    def counted(production: float | None) -> float | None:
        return against_production(RULES[metric], Reading(canary, "ill"), Reading(production, "so-so")).value

    assert counted(inside) == canary
    assert counted(None) == canary, "production without data is no excuse"
    assert counted(near) == 0
    assert counted(canary) == 0, "an outage of both"
    assert half is None or counted(half) == canary


def test_what_breaches_nothing_is_not_compared() -> None:
    for reading in (Reading(None, "no data"), Reading(0.3, "well")):
        assert against_production(RULES[Metric.MEMORY], reading, Reading(0.99, "full")) is reading


def test_a_person_says_with_clear_what_is_near_the_bound() -> None:
    canary, production = Reading(600, "slow"), Reading(400, "not so slow")
    assert against_production(LATENCY_MS, canary, production).value == 0
    assert against_production(STRICT, canary, production).value == 600


def test_the_reading_says_what_production_did() -> None:
    rule = RULES[Metric.CPU]
    canary, production = Reading(95, "instance a uses 95 %", {"instance": "a"}), Reading(92, "instance b uses 92 %")
    excused = against_production(rule, canary, production)
    assert excused.description == "instance a uses 95 %, but so it is in production: instance b uses 92 %"
    assert excused.evidence == {"instance": "a", "production": 92}
    blamed = against_production(rule, canary, Reading(10, "instance b uses 10 %"))
    assert (blamed.description, blamed.evidence) == ("instance a uses 95 %", {"instance": "a", "production": 10})
