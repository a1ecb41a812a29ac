"""What the platform takes for a build whose steps do nothing: pure arithmetic over the build's own times."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import median
from typing import Any

from stack.clients.load_report import percentile

HEAD = f"{'':32}{'median':>9}{'p90':>9}{'max':>9}{'goal':>10}"


@dataclass(frozen=True, slots=True)
class Overhead:
    """One build, in seconds. From the push: `first_step_s` until its first step began (before a container was made for
    it, where it has one), `first_end_s` until that step had ended, `sealed_s` until its artifact was ready to be
    released. `steps_s`: how much of that lies between the beginnings and ends of the steps.
    """

    first_step_s: float
    first_end_s: float
    sealed_s: float
    steps_s: float


@dataclass(frozen=True, slots=True)
class Goals:
    """In seconds; what the medians of `first_step_s` and `sealed_s` are to be below."""

    first_step_s: float
    sealed_s: float


def overhead(build: Mapping[str, Any], pushed_at: datetime) -> Overhead:
    """`build` is what `GET /builds/{id}` says of one that has passed and had steps; `pushed_at` is by its clock."""
    ran = [(_moment(step["started_at"]), _moment(step["finished_at"])) for step in build["steps"]]
    begin, end = ran[0]
    return Overhead(
        first_step_s=(begin - pushed_at).total_seconds(),
        first_end_s=(end - pushed_at).total_seconds(),
        sealed_s=(_moment(build["sealed_at"]) - pushed_at).total_seconds(),
        steps_s=sum((until - since).total_seconds() for since, until in ran),
    )


def table(builds: Sequence[Overhead], goals: Goals) -> list[str]:
    """Under HEAD. The steps do nothing, so all of `push → sealed` is the platform's."""
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
