"""Defines the manifest's `canary`: a canary's share of visitors, its steps, and what happens at their end."""

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, model_validator

from shared.manifest_step import Strict

_DURATION = re.compile(r"(\d{1,6})([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
DEFAULT_WEIGHT = 33
SHORTEST_STEP_S = 10
LONGEST_STEP_S = 7 * 86_400
LAST_STEP_S = 600
MOST_STEPS = 20


def parse_duration(value: Any) -> Any:
    """Returns a duration in seconds from a text: 120 for `2m`. Returns any value other than a text unchanged. Raises
    ValueError for a text that is not a duration.
    """
    if isinstance(value, str):
        match = _DURATION.fullmatch(value.strip())
        if not match:
            raise ValueError(f"{value!r} is not a duration; write it like 30s, 2m, 1h or 1d")
        return int(match[1]) * _SECONDS[match[2]]
    return value


def _within_bounds(seconds: int) -> int:
    if not SHORTEST_STEP_S <= seconds <= LONGEST_STEP_S:
        raise ValueError(f"is {seconds} s; a step lasts from 10s to 7d, write it like 30s, 2m, 1h or 1d")
    return seconds


_Written = Annotated[str, Field(pattern=r"^\s*\d{1,6}[smhd]\s*$")] | int
Duration = Annotated[
    int, BeforeValidator(parse_duration, json_schema_input_type=_Written), AfterValidator(_within_bounds)
]


class CanaryStep(Strict):
    """A step of a rollout gives the canary a share of the visitors and says how long the canary is analysed at this
    share. A step with `pause` then waits for a person, who resumes the rollout.
    """

    model_config = ConfigDict(populate_by_name=True, serialize_by_alias=True)

    weight: int = Field(ge=0, le=100, description="Percent of visitors that get the canary.")
    lasts: Duration | None = Field(
        None, alias="for", description="Time that the canary is analysed at this share, like 2m; needed unless `pause`."
    )
    pause: bool = Field(False, description="True: the rollout then waits until a person resumes it.")

    @model_validator(mode="after")
    def _ends(self) -> "CanaryStep":
        if self.lasts is None and not self.pause:
            raise ValueError("says neither how long it lasts nor that it waits; add `for`, like 2m, or `pause: true`")
        return self


class Canary(Strict):
    """A canary is a release that gets a share of the visitors before it goes to production."""

    model_config = ConfigDict(populate_by_name=True, serialize_by_alias=True)

    weight: int = Field(
        DEFAULT_WEIGHT, ge=0, le=100, description="Percent of visitors that get the canary, if it has no `steps`."
    )
    lasts: Duration = Field(
        LAST_STEP_S, alias="for", description="Time that the canary is analysed, if it has no `steps`."
    )
    steps: list[CanaryStep] = Field(
        [], max_length=MOST_STEPS, description="Steps of the rollout, instead of one share for the whole rollout."
    )
    promote: Literal["by-hand", "automatic"] = Field(
        "by-hand", description="`automatic`: a canary that passes the analysis at its last step is promoted."
    )
    mirror: int = Field(
        0,
        ge=0,
        le=100,
        description="Percent of production's GET and HEAD requests that are also sent to the canary, whose answers to "
        "them are thrown away.",
    )
    override: str | None = Field(
        None,
        pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$",
        description="Name of a secret of the app's canary environment, which must be set. The header `x-canary` then "
        "gets the canary only if it carries the secret's value.",
    )

    @model_validator(mode="after")
    def _one_way(self) -> "Canary":
        # By value: a manifest that was stored has all keys.
        if self.steps and (self.weight, self.lasts) != (DEFAULT_WEIGHT, LAST_STEP_S):
            raise ValueError(
                "has `steps`, each with its own weight and time, and `weight` or `for` too; remove these, or the steps"
            )
        return self

    def plan(self) -> list[CanaryStep]:
        """Returns the steps; without `steps` it is one step, made of `weight` and `for`."""
        return self.steps or [CanaryStep(weight=self.weight, lasts=self.lasts)]
