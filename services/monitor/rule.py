"""Rules: what is measured of a canary release, from which figure on it is bad, and whether that ends the canary."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints, model_validator

from shared.models import Model

RuleName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,62}$")]


class Metric(StrEnum):
    """What a rule can look at; the worst instance counts."""

    ERROR_SHARE = "error_share"  # share of the canary's answers that are 5xx; 0 where stable is at least half as bad
    HEALTH = "health"  # canary instances that are unhealthy or failed
    NO_SAMPLES = "no_samples"  # seconds for which a ready instance gave no samples while the deployer answered
    CPU = "cpu"  # percent of one core
    MEMORY = "memory"  # share of the limit, 0 to 1


class RuleBody(Model):
    """The alert is pending from `threshold` on, fires once that lasted `for_s` seconds, and resolves at `clear`."""

    metric: Metric
    threshold: float = Field(gt=0, description="From this figure on it is bad.")
    clear: float | None = Field(
        None, ge=0, description="A firing alert resolves at or below it; half of the threshold."
    )
    for_s: float = Field(0, ge=0, le=3600, description="Seconds that it must last.")
    aborts: bool = Field(False, description="Whether the alert ends the canary's rollout.")
    enabled: bool = True

    @model_validator(mode="after")
    def _hysteresis(self) -> "RuleBody":
        if self.clear is not None and self.clear >= self.threshold:
            raise ValueError("clear is not below threshold; the alert would flap, lower clear")
        return self


class Rule(RuleBody):
    name: RuleName


DEFAULTS = {
    rule.name: rule
    for rule in (
        Rule(name="errors", metric=Metric.ERROR_SHARE, threshold=0.05, clear=0.02, aborts=True),
        Rule(name="health", metric=Metric.HEALTH, threshold=1, aborts=True),
        Rule(name="samples", metric=Metric.NO_SAMPLES, threshold=10, aborts=True),
    )
}


@dataclass(frozen=True)
class Reading:
    """What a metric says at one moment; `value` is None if there are no data. `words` is a whole sentence's worth."""

    value: float | None
    words: str


def is_breaching(rule: Rule, reading: Reading, firing: bool) -> bool | None:
    """Whether the figure is bad; a firing alert stays so until the figure is at `clear`. None: nobody knows."""
    if reading.value is None:
        return None
    if reading.value >= rule.threshold:
        return True
    clear = rule.threshold / 2 if rule.clear is None else rule.clear
    return firing and reading.value > clear
