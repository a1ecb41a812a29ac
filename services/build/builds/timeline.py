"""Divides a build's time into spans: waiting, each step, gaps, sealing, deployment. Pure."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from services.build.builds.build import Build
from shared.models import BuildState

SHORTEST = timedelta(seconds=0.05)  # a shorter gap between two spans is not shown


@dataclass(frozen=True)
class Span:
    """Describes one bar of a build's timeline: a step, or another span of the build's time. `line` is the first line of
    the step's output in the log; None if the bar is no step.
    """

    name: str
    state: str
    """State of the step; `queued`, `quiet` or `passed` for other spans; the build's state for the deployment."""
    start_s: float
    """Seconds since the build was queued."""
    seconds: float
    from_percent: float
    """Start of the bar, in percent of the build's duration."""
    width_percent: float
    """Width of the bar, in percent of the build's duration."""
    line: int | None = None


@dataclass(frozen=True)
class Timeline:
    spans: list[Span]
    total_s: float


def timeline(build: Build, now: datetime) -> Timeline:
    """Returns the spans of a build's time. A span that has not ended lasts until `now`. Spans of parallel steps
    overlap.
    """
    zero, end = build.created_at, build.finished_at or max(now, build.created_at)
    total_s = (end - zero).total_seconds()
    spans: list[tuple[str, str, datetime, datetime, int | None]] = []
    begun = build.started_at or end
    spans.append(("waiting in the queue", "queued", zero, begun, None))
    at = begun
    for step in sorted((run for run in build.steps if run.state != "skipped"), key=lambda run: run.started_at):
        if step.started_at - at > SHORTEST:
            name = "checkout and preparation" if at == begun else "between steps"
            spans.append((name, "quiet", at, step.started_at, None))
        finished = step.finished_at or end
        spans.append((step.name, step.state, step.started_at, finished, step.line))
        at = max(at, finished)
    last = build.sealed_at or end
    if build.started_at is not None and last - at > SHORTEST:
        spans.append(("gates and artifact", "passed" if build.passed else "quiet", at, last, None))
    if build.sealed_at is not None and end - build.sealed_at > SHORTEST:
        spans.append(("deploy", _state_of_deploy(build.state), build.sealed_at, end, None))
    return Timeline([_span(*each, zero, total_s) for each in spans], total_s)


def _span(
    name: str, state: str, start: datetime, end: datetime, line: int | None, zero: datetime, total_s: float
) -> Span:
    start_s, seconds = (start - zero).total_seconds(), max(0.0, (end - start).total_seconds())
    share = 100 / total_s if total_s > 0 else 0
    return Span(name, state, start_s, seconds, round(start_s * share, 2), round(seconds * share, 2), line)


def _state_of_deploy(state: BuildState) -> str:
    return state.value if state is not BuildState.CANCELLED else "failure"
