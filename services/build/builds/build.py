"""A build: its states, its record, and what each step of its life changes in it. Pure."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Literal

from pydantic import Field, computed_field

from services.build.gates.flaky import FlakyTest
from services.build.gates.gate import GateResult
from shared.manifest import Stage
from shared.models import Artifact, BuildState, BuildView, Environment, Event, View
from shared.state import Table, transition

S = BuildState
TRANSITIONS: Table[BuildState] = {
    S.QUEUED: frozenset({S.RUNNING, S.ERROR, S.CANCELLED, S.SUPERSEDED}),
    S.RUNNING: frozenset({S.SUCCESS, S.FAILURE, S.ERROR, S.CANCELLED, S.SUPERSEDED}),
    S.SUCCESS: frozenset(),
    S.FAILURE: frozenset(),
    S.ERROR: frozenset(),
    S.CANCELLED: frozenset(),
    S.SUPERSEDED: frozenset(),
}
ENDED = frozenset(state for state, following in TRANSITIONS.items() if not following)
JUDGED = frozenset({S.SUCCESS, S.FAILURE, S.ERROR})  # cancelled and superseded say nothing about the commit
EXCERPT_BYTES = 4096


class StepRun(View):
    """One step; `exit_code` is null while it runs, and when it was ended from outside, or never run."""

    name: str
    stage: Stage
    state: Literal["running", "success", "failure", "skipped"]
    line: int = Field(1, description="The log's line at which it begins, from 1.")
    started_at: datetime
    finished_at: datetime | None = None
    exit_code: int | None = None
    reason: str = ""
    ignored: bool = Field(False, description="It failed, and by its manifest that does not count.")

    @property
    def failed(self) -> bool:
        """So that the build did."""
        return self.state == "failure" and not self.ignored

    @computed_field(description="How long it ran; null while it does.")  # type: ignore[prop-decorator]
    @property
    def seconds(self) -> float | None:
        return None if self.finished_at is None else (self.finished_at - self.started_at).total_seconds()


class Expired(View):
    """What of a build that has ended is no longer there, and since when."""

    log: datetime | None = Field(None, description="Its log and the details of its reports.")
    artifact: datetime | None = Field(None, description="Its artifact; building the commit again makes one.")


class StopRequest(View):
    """The intent to end a running build, kept before its processes are ended."""

    state: Literal[BuildState.CANCELLED, BuildState.SUPERSEDED]
    reason: str


class Build(BuildView):
    """`GET /builds/{id}`. `number` counts up per app, `attempt` grows when a build is taken up again after a crash."""

    number: int
    reason: str = ""
    stage: Stage | None = Field(None, description="The stage that it is in, or ended in.")
    steps: list[StepRun] = Field([])
    gates: list[GateResult] = Field([])
    flaky: list[FlakyTest] = Field([], description="Flaky tests that touched the verdict; none of them is hidden.")
    untested: bool | None = Field(None, description="True if no test reported anything; null before that is known.")
    release: str | None = Field(None, description="Id of the deployer's release of this build.")
    urls: list[str] = Field([], description="Where it is live.")
    recovered: bool = Field(False, description="A success after a failure of the same branch.")
    excerpt: str = Field("", description="First failing lines, at most 4 KiB.")
    attempt: int = 0
    fresh: bool = Field(False, description="Asked for by hand: nothing that passed already is reused.")
    judgement: str | None = Field(None, description="Digest of what decides its verdict; equal ones, equal verdicts.")
    reused: str | None = Field(None, description="The build that passed instead: its steps were not run again.")
    expired: Expired = Field(Expired(), description="What was removed by rule; the record stays.")
    stop: StopRequest | None = None
    door: bool = Field(False, description="Its commit is judged before a push of it to `branch` is accepted.")
    created_at: datetime
    started_at: datetime | None = None
    sealed_at: datetime | None = Field(None, description="When what passed was ready to be released.")
    finished_at: datetime | None = None

    @property
    def group(self) -> tuple[str, str | None, bool]:
        """Of which the newest wins. What is only at the door does not touch what was accepted."""
        return self.app, self.branch, self.door

    @property
    def judged_for(self) -> Environment | None:
        """Whose pipeline judges it: at the door that of the environment that its branch goes to."""
        return Environment.PRODUCTION if self.door else self.environment

    @property
    def speaks_for(self) -> str | None:
        """The branch that its verdict is one about: of badge, trend and recovery."""
        return None if self.door else self.branch

    @property
    def ended(self) -> bool:
        return self.state in ENDED

    @property
    def deploying(self) -> bool:
        """Past its gates; from here it is neither cancelled nor superseded."""
        return self.state is S.RUNNING and self.passed


def noted_expiry(build: Build, expired: Expired) -> Build:
    """What was noted once stays noted. Raises ValueError for a build that has not ended: nothing of it expires."""
    if not build.ended:
        raise ValueError(f"{build.id} has not ended")
    before = build.expired
    kept = Expired(log=before.log or expired.log, artifact=before.artifact or expired.artifact)
    return with_changes(build, expired=kept)


def with_changes(build: Build, **changes: Any) -> Build:
    return build.model_copy(update=changes)


def started(build: Build, now: datetime) -> Build:
    """Running from the beginning; also for a build that the service left running when it died."""
    state = S.RUNNING if build.state is S.RUNNING else transition(TRANSITIONS, build.state, S.RUNNING)
    return with_changes(
        build,
        state=state,
        reason="",
        attempt=build.attempt + 1,
        started_at=build.started_at or now,
        steps=[],
        gates=[],
        flaky=[],
        excerpt="",
    )


def ended(build: Build, state: BuildState, reason: str, now: datetime, *, recovered: bool = False) -> Build:
    """The end. Raises IllegalTransition if it has ended already."""
    state = transition(TRANSITIONS, build.state, state)
    return with_changes(build, state=state, reason=reason, finished_at=now, recovered=recovered and state is S.SUCCESS)


def step_started(build: Build, name: str, stage: Stage, now: datetime, line: int = 1) -> Build:
    """May be repeated. `line`: of the log, where it begins."""
    step = StepRun(name=name, stage=stage, state="running", started_at=now, line=line)
    return with_changes(build, stage=stage, steps=[*(run for run in build.steps if run.name != name), step])


def step_finished(build: Build, name: str, exit_code: int | None, reason: str, now: datetime) -> Build:
    """An empty `reason` means success."""
    state = "failure" if reason else "success"
    return _with_step(build, name, state=state, finished_at=now, exit_code=exit_code, reason=reason)


def step_skipped(build: Build, name: str, stage: Stage, reason: str, now: datetime, line: int = 1) -> Build:
    """It is not run. May be repeated."""
    begun = step_started(build, name, stage, now, line)
    return with_changes(_with_step(begun, name, state="skipped", finished_at=now, reason=reason), stage=build.stage)


def sealed(build: Build, artifact: Artifact, at: datetime) -> Build:
    """It has passed; `at` is when its artifact was there."""
    return with_changes(build, artifact=artifact, passed=True, stage=Stage.DEPLOY, excerpt="", sealed_at=at)


def step_excused(build: Build, name: str, reason: str) -> Build:
    """It failed, but for nothing that counts."""
    return _with_step(build, name, state="success", reason=reason)


def step_ignored(build: Build, name: str) -> Build:
    """It failed, in its last run, and that is not to count."""
    return _with_step(_with_step(build, name, ignored=True), again(name), ignored=True)


def again(name: str) -> str:
    """The name of a step's second run."""
    return f"{name} (again)"


def _with_step(build: Build, name: str, **changes: Any) -> Build:
    steps = [run.model_copy(update=changes) if run.name == name else run for run in build.steps]
    return with_changes(build, steps=steps)


def masked(build: Build, mask: Callable[[str], str]) -> Build:
    """With all texts masked that steps and their reports may have a part in."""
    return with_changes(
        build,
        reason=mask(build.reason),
        excerpt=mask(build.excerpt),
        steps=[run.model_copy(update={"reason": mask(run.reason)}) for run in build.steps],
        gates=[gate.masked(mask) for gate in build.gates],
        flaky=[each.model_copy(update={"test": mask(each.test), "what": mask(each.what)}) for each in build.flaky],
    )


def event_of(build: Build) -> Event:
    """What the stream `events` is told when the build has come into its state."""
    return Event(
        type=f"build.{build.state}",
        app=build.app,
        at=build.finished_at or build.started_at or build.created_at,
        id=build.id,
        reason=build.reason,
        notify=build.manifest.notify if build.manifest and not build.door else [],
        branch=build.branch,
        commit=build.commit,
        environment=build.environment,
        stage=build.stage,
        release=build.release,
        recovered=build.recovered,
        door=build.door,
        excerpt=build.excerpt,
    )


def excerpt(lines: Sequence[str]) -> str:
    """From the first line that looks like a failure, else the last lines; at most 4 KiB of UTF-8."""
    signs = ("error", "fail", "traceback", "assert", "exception", "not found", "no such file")
    first = next((at for at, line in enumerate(lines) if any(sign in line.lower() for sign in signs)), None)
    chosen = lines[first:] if first is not None else lines[-20:]
    return "\n".join(chosen).encode()[:EXCERPT_BYTES].decode(errors="ignore")
