"""Defines how the record of a build's steps changes. Pure."""

from datetime import datetime
from typing import Any

from services.build.builds.build import Build, StepRun, with_changes
from shared.manifest import Stage


def step_started(build: Build, name: str, stage: Stage, now: datetime, line: int = 1) -> Build:
    """Returns the build with this step recorded as running; the step's output begins at `line` of the log. The record
    replaces that of an earlier run of the step.
    """
    step = StepRun(name=name, stage=stage, state="running", started_at=now, line=line)
    return with_changes(build, stage=stage, steps=[*(run for run in build.steps if run.name != name), step])


def step_finished(build: Build, name: str, exit_code: int | None, reason: str, now: datetime) -> Build:
    """Returns the build with this step recorded as ended: as a success if `reason` is empty, else as a failure."""
    state = "failure" if reason else "success"
    return _with_step(build, name, state=state, finished_at=now, exit_code=exit_code, reason=reason)


def step_skipped(build: Build, name: str, stage: Stage, reason: str, now: datetime, line: int = 1) -> Build:
    """Returns the build with this step recorded as skipped, for `reason`. The record replaces that of an earlier run of
    the step.
    """
    begun = step_started(build, name, stage, now, line)
    return with_changes(_with_step(begun, name, state="skipped", finished_at=now, reason=reason), stage=build.stage)


def step_excused(build: Build, name: str, reason: str) -> Build:
    """Returns the build with the failed step recorded as a success, because all of its failing tests are known to be
    flaky. `reason` says so.
    """
    return _with_step(build, name, state="success", reason=reason)


def step_ignored(build: Build, name: str) -> Build:
    """Returns the build with the step and its rerun marked as ignored, so that their failures do not fail the build."""
    return _with_step(_with_step(build, name, ignored=True), again(name), ignored=True)


def again(name: str) -> str:
    """Returns the name under which a step's rerun is recorded."""
    return f"{name} (again)"


def _with_step(build: Build, name: str, **changes: Any) -> Build:
    steps = [run.model_copy(update=changes) if run.name == name else run for run in build.steps]
    return with_changes(build, steps=steps)
