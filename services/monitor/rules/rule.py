"""Defines alert rules: which metric of a release they compare with which threshold, and whether they abort a canary."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated

from pydantic import Field, JsonValue, Strict, StringConstraints, model_validator

from shared.models import AppName, Environment, EnvironmentName, Model

RuleName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9-]{0,62}$")]


class Metric(StrEnum):
    """Names the metrics for alert rules. Each is measured for one release in one environment."""

    ANALYSIS = "analysis"
    """1 if the canary analysis finds that the canary harms visitors more than production does; else 0. Production has
    no such figure.
    """
    ERROR_SHARE = "error_share"
    """Share of requests that failed, 0 to 1. For a canary it is 0 if production's share is at least half as high."""
    LATENCY = "latency"
    """The canary's p95 latency as a multiple of production's. Production has no such figure."""
    LATENCY_MS = "latency_ms"
    """p95 latency in milliseconds."""
    HEALTH = "health"
    """Number of instances that are unhealthy or failed."""
    RESTARTS = "restarts"
    """Number of restarts of all instances together within the last 10 minutes."""
    NO_SAMPLES = "no_samples"
    """Longest time, in seconds, for which a ready instance gave no samples while the deployer answered."""
    CPU = "cpu"
    """CPU use of the busiest instance, in percent of one core."""
    MEMORY = "memory"
    """Memory use of the fullest instance, as a share of its limit, 0 to 1."""
    MEMORY_AT_CAP = "memory_at_cap"
    """Memory use of the fullest instance among those whose limit is the largest allowed, as a share of its limit; 0 if
    there are none. 1 for a minute after one of them was killed at its limit.
    """
    ARTIFACT_LOST = "artifact_lost"
    """1 if the release's artifact or image is gone and could not be built again, so that no instance can start; else 0.
    """


class RuleBody(Model):
    """Request body of `PUT /rules/{name}`. An alert is pending while the metric is at or above `threshold`. It fires
    after `for_s` seconds, and resolves once the metric has been at or below `clear` for `keep_firing_for_s` seconds.
    """

    metric: Annotated[Metric, Strict(False)]
    threshold: float = Field(gt=0, allow_inf_nan=False, description="The rule is breached at or above this value.")
    clear: float | None = Field(
        None, ge=0, description="A firing alert resolves at or below this value; null: half of the threshold."
    )
    for_s: float = Field(0, ge=0, le=3600, description="Seconds that a breach must last before the alert fires.")
    keep_firing_for_s: float = Field(
        0, ge=0, le=3600, description="Seconds without a breach after which a firing alert resolves."
    )
    app: AppName | None = Field(None, description="The app that the rule applies to; null: every app.")
    environment: EnvironmentName | None = Field(
        None, description="The environment that the rule applies to; null: both."
    )
    aborts: bool = Field(False, description="True: a firing alert aborts the canary's rollout. Never ends production.")
    enabled: bool = True

    @model_validator(mode="after")
    def _hysteresis(self) -> "RuleBody":
        if self.clear is not None and self.clear >= self.threshold:
            raise ValueError("clear is not below threshold, so the alert would flap; lower clear")
        return self

    @property
    def clears_at(self) -> float:
        """Returns the value at or below which a firing alert resolves. Production's figure is an excuse for a canary
        only above it.
        """
        return self.threshold / 2 if self.clear is None else self.clear

    def concerns(self, app: str, environment: Environment) -> bool:
        """Returns True if the rule is enabled and applies to this app and environment."""
        return self.enabled and self.app in (None, app) and self.environment in (None, environment)


class Rule(RuleBody):
    name: RuleName


DEFAULTS = {
    rule.name: rule
    for rule in (
        Rule(name="analysis", metric=Metric.ANALYSIS, threshold=1, environment=Environment.CANARY, aborts=True),
        Rule(name="errors", metric=Metric.ERROR_SHARE, threshold=0.05, clear=0.02, environment=Environment.PRODUCTION),
        Rule(name="health", metric=Metric.HEALTH, threshold=1, aborts=True),
        Rule(name="restarts", metric=Metric.RESTARTS, threshold=3, aborts=True),
        Rule(name="cpu", metric=Metric.CPU, threshold=90, clear=70, for_s=120, aborts=True),
        Rule(name="memory", metric=Metric.MEMORY, threshold=0.9, clear=0.8, for_s=30),
        Rule(name="MemoryAtCap", metric=Metric.MEMORY_AT_CAP, threshold=0.85, clear=0.7, aborts=True),
        Rule(name="samples", metric=Metric.NO_SAMPLES, threshold=10, aborts=True),
        Rule(name="artifact", metric=Metric.ARTIFACT_LOST, threshold=1),
    )
}


@dataclass(frozen=True)
class Reading:
    """Holds the value of a metric at one moment."""

    value: float | None
    """Value of the metric; None if there are no data."""
    description: str
    """Description of the value as a sentence for people."""
    evidence: Mapping[str, JsonValue] = field(default_factory=dict)
    """Figures from which the value was computed, to be stored as evidence."""


def is_breaching(rule: Rule, reading: Reading, firing: bool) -> bool | None:
    """Returns True if the reading breaches the rule, False if not, and None if it has no data. For an alert that is
    already `firing`, every value above `clear` is a breach.
    """
    if reading.value is None:
        return None
    if reading.value >= rule.threshold:
        return True
    return firing and reading.value > rule.clears_at
