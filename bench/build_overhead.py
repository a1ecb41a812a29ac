"""Overhead of the platform in a build whose steps do nothing, computed from the build's own times. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import median
from typing import Any

from stack.clients.load_report import percentile

HEAD = f"{'':32}{'median':>9}{'p90':>9}{'max':>9}{'goal':>10}"


@dataclass(frozen=True, slots=True)
class Overhead:
    """The times of one build, in seconds."""

    first_step_s: float
    """Time from the push until its first step began (before the step's container, if any, was made)."""
    first_end_s: float
    """Time from the push until that step had ended."""
    sealed_s: float
    """Time from the push until its artifact was ready to be released."""
    steps_s: float
    """Part of `sealed_s` between the beginnings and ends of the steps."""


@dataclass(frozen=True, slots=True)
class Goals:
    """Upper limits for the medians of `first_step_s` and `sealed_s`, in seconds."""

    first_step_s: float
    sealed_s: float


def overhead(build: Mapping[str, Any], pushed_at: datetime) -> Overhead:
    """Computes the overhead from `GET /builds/{id}` of a build that passed and had steps; `pushed_at` is by
    its clock.
    """
    ran = [(_moment(step["started_at"]), _moment(step["finished_at"])) for step in build["steps"]]
    begin, end = ran[0]
    return Overhead(
        first_step_s=(begin - pushed_at).total_seconds(),
        first_end_s=(end - pushed_at).total_seconds(),
        sealed_s=(_moment(build["sealed_at"]) - pushed_at).total_seconds(),
        steps_s=sum((until - since).total_seconds() for since, until in ran),
    )


def table(builds: Sequence[Overhead], goals: Goals) -> list[str]:
    """Returns the lines under HEAD. The steps do nothing, so all of `push → sealed` is the platform's."""
    return [
        _line("push → first step begins", [each.first_step_s for each in builds], goals.first_step_s),
        _line("push → first step has ended", [each.first_end_s for each in builds]),
        _line("push → sealed", [each.sealed_s for each in builds], goals.sealed_s),
        _line("    of it in the steps", [each.steps_s for each in builds]),
        _line("    of it outside them", [each.sealed_s - each.steps_s for each in builds]),
    ]


def are_met(builds: Sequence[Overhead], goals: Goals) -> bool:
    first = median(each.first_step_s for each in builds)
    return first < goals.first_step_s and median(each.sealed_s for each in builds) < goals.sealed_s


def _line(name: str, seconds: Sequence[float], goal_s: float | None = None) -> str:
    figures = [median(seconds), percentile(sorted(seconds), 0.9) or 0.0, max(seconds)]
    goal = "" if goal_s is None else f"{f'< {goal_s:g} s':>10}{'' if figures[0] < goal_s else '  missed'}"
    return f"{name:32}" + "".join(f"{figure:>7.2f} s" for figure in figures) + goal


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)
