"""Defines a build: its states, its record, and the functions that change the record. Pure."""

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
Group = tuple[str, str | None, bool, str | None]


class StepRun(View):
    """Records one run of a step in a build. `reason` says why the step failed, was skipped, or counts as passed
    although it failed; it is empty while the step runs and after a success.
    """

    name: str
    stage: Stage
    state: Literal["running", "success", "failure", "skipped"]
    line: int = Field(1, description="First line of its output in the build's log, from 1.")
    started_at: datetime
    finished_at: datetime | None = None
    exit_code: int | None = Field(
        None, description="Null while the step runs, if it was ended from outside, and if it was skipped."
    )
    reason: str = ""
    ignored: bool = Field(False, description="True if it failed and its manifest says `failure: ignore`.")

    @property
    def failed(self) -> bool:
        """Returns True if the step failed and its failure is not ignored."""
        return self.state == "failure" and not self.ignored

    @computed_field(description="Duration; null while it runs.")  # type: ignore[prop-decorator]
    @property
    def seconds(self) -> float | None:
        return None if self.finished_at is None else (self.finished_at - self.started_at).total_seconds()


class Inferred(View):
    """Records one entry that is missing in the manifest and that a build inferred from the commit's files."""

    key: str = Field(description="`steps`, `run` (its command) or `run.port`.")
    value: str
    origin: str = Field(description="Files that it was inferred from, in words.")

    def __str__(self) -> str:
        return f"{self.key}: {self.value}" + (f" (from {self.origin})" if self.origin else "")


class Expired(View):
    """Records which of the build's files (log, artifact) retention has deleted, and when."""

    log: datetime | None = Field(None, description="Time at which log and report details were deleted.")
    artifact: datetime | None = Field(
        None, description="Time at which the artifact was deleted; a new build of the commit makes another."
    )


class StopRequest(View):
    """Records the request to cancel or supersede a running build, and why. It is stored before the build's processes
    are stopped.
    """

    state: Literal[BuildState.CANCELLED, BuildState.SUPERSEDED]
    reason: str


class Build(BuildView):
    """Holds a build's record; response body of `GET /builds/{id}`."""

    number: int = Field(description="Number of the build, which counts up per app.")
    root: str | None = Field(None, description="Folder of the repository that was built; null: all of it.")
    inferred: list[Inferred] = Field([], description="What the manifest leaves out, with its origin.")
    stage: Stage | None = Field(None, description="Stage that the build is in, or in which it ended.")
    steps: list[StepRun] = Field([])
    gates: list[GateResult] = Field([])
    flaky: list[FlakyTest] = Field([], description="All flaky tests that influenced the verdict.")
    untested: bool | None = Field(
        None, description="True if no test report was read; null before the gates have judged."
    )
    release: str | None = Field(None, description="Id of the release that deploys it.")
    urls: list[str] = Field([], description="URLs at which it is live.")
    recovered: bool = Field(
        False, description="True if it succeeded and the branch's last judged build before it did not."
    )
    excerpt: str = Field("", description="Log lines from the first that looks like a failure, at most 4 KiB.")
    attempt: int = Field(
        0, description="Number of times that the build began: it begins again after a crash of the service."
    )
    fresh: bool = Field(
        False, description="True if it was requested by hand: the result of an earlier build is not reused."
    )
    off_head: bool = Field(
        False,
        description="True if it was requested by hand for a commit that was not its branch's head, or rebuilds the "
        "artifact of a release; it supersedes no build, and does not change the branch's badge.",
    )
    judgement: str | None = Field(None, description="Cache key: a digest of everything that decides the verdict.")
    reused: str | None = Field(None, description="Id of the earlier build whose result is reused; no steps were run.")
    expired: Expired = Field(Expired(), description="Which of its files retention has deleted.")
    stop: StopRequest | None = None
    door: bool = Field(
        False, description="True for a pre-receive build: the commit is judged before its push to `branch` is accepted."
    )
    created_at: datetime
    started_at: datetime | None = None
    sealed_at: datetime | None = Field(None, description="Time at which its artifact was complete, with its digest.")
    finished_at: datetime | None = None

    @property
    def tree(self) -> str:
        """Returns git's name of the folder that is built: `<commit>`, or `<commit>:<root>` if the app is a folder of
        its repository.
        """
        return tree_at(self.commit, self.root)

    @property
    def group(self) -> Group:
        """Returns the supersede key: app, branch, whether it is a pre-receive build, the release whose artifact it
        rebuilds. Of builds with the same key, one at a time runs, and a new one supersedes the older ones unless the
        new one is `off_head`.
        """
        return self.app, self.branch, self.door, self.rebuilds

    @property
    def effective_environment(self) -> Environment | None:
        """Returns the environment that decides which steps run, since a step's conditions may name one: production for
        a pre-receive build, else `environment`.
        """
        return Environment.PRODUCTION if self.door else self.environment

    @property
    def reported_branch(self) -> str | None:
        """Returns the branch whose badge and trends include this build. Returns None for a pre-receive build, since its
        push is not accepted yet, and for a build of a commit that was not its branch's head.
        """
        return None if self.door or self.off_head else self.branch

    @property
    def ended(self) -> bool:
        return self.state in ENDED

    @property
    def deploying(self) -> bool:
        """Returns True if the build runs and its gates have passed, so that it is being deployed. It can then be
        cancelled until its release serves visitors. It is superseded only if the deployer replaces its release by a
        newer one.
        """
        return self.state is S.RUNNING and self.passed


def tree_at(commit: str, root: str | None) -> str:
    """Returns git's name of the folder `root` of the commit, `<commit>:<root>`; without `root`, that of the whole
    commit.
    """
    return commit if root is None else f"{commit}:{root}"


def with_expiry(build: Build, expired: Expired) -> Build:
    """Returns the build with the times at which its log and artifact were deleted, from `expired`. A time that was
    recorded before stays. Raises ValueError if the build has not ended.
    """
    if not build.ended:
        raise ValueError(f"{build.id} has not ended")
    before = build.expired
    kept = Expired(log=before.log or expired.log, artifact=before.artifact or expired.artifact)
    return with_changes(build, expired=kept)


def with_changes(build: Build, **changes: Any) -> Build:
    return build.model_copy(update=changes)


def started(build: Build, now: datetime) -> Build:
    """Returns the build as running, without steps and results, and with `attempt` increased. A build that is already
    running begins again in this way after a crash of the service.
    """
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
    """Returns the build in its final `state`. `recovered` is True if the branch's last judged build before it did not
    succeed; the build records that only if it succeeds itself. Raises IllegalTransition if it has ended already.
    """
    state = transition(TRANSITIONS, build.state, state)
    return with_changes(build, state=state, reason=reason, finished_at=now, recovered=recovered and state is S.SUCCESS)


def sealed(build: Build, artifact: Artifact, at: datetime) -> Build:
    """Returns the build as passed, with the artifact that was made at `at`."""
    return with_changes(build, artifact=artifact, passed=True, stage=Stage.DEPLOY, excerpt="", sealed_at=at)


def masked(build: Build, mask: Callable[[str], str]) -> Build:
    """Returns the build with `mask`, which replaces secrets by `***`, applied to every text that may come from steps or
    their reports.
    """
    return with_changes(
        build,
        reason=mask(build.reason),
        excerpt=mask(build.excerpt),
        steps=[run.model_copy(update={"reason": mask(run.reason)}) for run in build.steps],
        gates=[gate.masked(mask) for gate in build.gates],
        flaky=[each.model_copy(update={"test": mask(each.test), "what": mask(each.what)}) for each in build.flaky],
    )


def event_of(build: Build) -> Event:
    """Returns the event that announces the build's present state to other services, on the Redis stream `events`."""
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
        rebuilds=build.rebuilds,
        excerpt=build.excerpt,
    )


def excerpt(lines: Sequence[str]) -> str:
    """Returns an excerpt of a build's log: the lines from the first that looks like a failure to the end; if none does,
    the last 20. The text is cut to 4 KiB of UTF-8.
    """
    signs = ("error", "fail", "traceback", "assert", "exception", "not found", "no such file")
    first = next((at for at, line in enumerate(lines) if any(sign in line.lower() for sign in signs)), None)
    chosen = lines[first:] if first is not None else lines[-20:]
    return "\n".join(chosen).encode()[:EXCERPT_BYTES].decode(errors="ignore")
