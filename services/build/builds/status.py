"""Derives the commit statuses that forges show for a build: one for each stage. Pure."""

from collections.abc import Iterable
from enum import StrEnum

from services.build.builds.build import Build
from services.build.gates.gate import GateResult
from shared.manifest import Stage
from shared.models import BuildState, View

S = BuildState
JUDGED_STAGES = (Stage.BUILD, Stage.TEST, Stage.ANALYSIS)
STAGE_OF_GATE = {"manifest": Stage.BUILD, "test_failures": Stage.TEST, "coverage": Stage.TEST}  # others: analysis


class StatusVerdict(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    SUCCESS = "success"
    FAILURE = "failure"
    ERROR = "error"
    CANCELLED = "cancelled"


V = StatusVerdict


class Status(View):
    stage: Stage
    verdict: StatusVerdict
    description: str

    @property
    def context(self) -> str:
        return f"slipway/{self.stage}"


class PendingStatuses(View):
    """Holds the commit statuses of all stages of a build that are to be sent to the app's forge. `number` is the
    build's number.
    """

    app: str
    commit: str
    number: int
    statuses: list[Status]


def statuses_of(build: Build) -> PendingStatuses:
    """Returns the commit statuses of all stages of the build. There is one for the stage `deploy` only if the build has
    an environment.
    """
    judged = [_judged(build, stage) for stage in JUDGED_STAGES]
    statuses = [*judged, _deploy(build)] if build.environment else judged
    return PendingStatuses(app=build.app, commit=build.commit, number=build.number, statuses=statuses)


def _judged(build: Build, stage: Stage) -> Status:
    """Returns the commit status of a stage before `deploy`. It becomes a success only once the gates have passed, which
    are evaluated after all these stages.
    """
    if build.passed or build.state is S.SUCCESS:
        return Status(stage=stage, verdict=V.SUCCESS, description=_passed(build, stage))
    if build.state is S.QUEUED:
        return Status(stage=stage, verdict=V.PENDING, description="queued")
    if build.state is S.RUNNING:
        return _running(build, stage)
    if build.state is S.FAILURE:
        return _failure(build, stage)
    verdict = V.ERROR if build.state is S.ERROR else V.CANCELLED
    return Status(stage=stage, verdict=verdict, description=build.reason)


def _running(build: Build, stage: Stage) -> Status:
    order = [*JUDGED_STAGES, Stage.DEPLOY]
    at = order.index(build.stage or Stage.BUILD)
    if order.index(stage) > at:
        return Status(stage=stage, verdict=V.PENDING, description="waits for its turn")
    description = "running" if order.index(stage) == at else "its steps passed; the gates judge at the end"
    return Status(stage=stage, verdict=V.RUNNING, description=description)


def _failure(build: Build, stage: Stage) -> Status:
    refused = [gate for gate in build.gates if not gate.passed]
    stages = {_stage_of(gate, build) for gate in refused} or {Stage.BUILD}  # no gate: sealing failed
    if stage in stages:
        own = [gate for gate in refused if _stage_of(gate, build) is stage]
        return Status(stage=stage, verdict=V.FAILURE, description=_reasons(own) or build.reason)
    ended_at = next((_stage_of(gate, build) for gate in refused if gate.name in ("steps", "manifest")), Stage.DEPLOY)
    order = [*JUDGED_STAGES, Stage.DEPLOY]
    if order.index(stage) > order.index(ended_at):
        return Status(stage=stage, verdict=V.ERROR, description=f"not run: {ended_at} failed")
    return Status(stage=stage, verdict=V.SUCCESS, description=_passed(build, stage))


def _deploy(build: Build) -> Status:
    if build.state in (S.QUEUED, S.RUNNING):
        verdict, description = (V.RUNNING, "being deployed") if build.passed else (V.PENDING, "waits for the gates")
    elif build.state is S.SUCCESS:
        verdict, description = V.SUCCESS, build.reason
    elif build.state is S.FAILURE:
        verdict, description = (V.FAILURE, build.reason) if build.passed else (V.ERROR, "not deployed: a gate failed")
    else:
        verdict, description = (V.ERROR if build.state is S.ERROR else V.CANCELLED), build.reason
    return Status(stage=Stage.DEPLOY, verdict=verdict, description=description)


def _stage_of(gate: GateResult, build: Build) -> Stage:
    if gate.name == "steps":
        # The last failed step: steps that failed before it passed in their rerun, otherwise none would have followed.
        return next((run.stage for run in reversed(build.steps) if run.failed), build.stage or Stage.BUILD)
    return STAGE_OF_GATE.get(gate.name, Stage.ANALYSIS)


def _passed(build: Build, stage: Stage) -> str:
    own = [gate for gate in build.gates if gate.name != "steps" and _stage_of(gate, build) is stage]
    untested = "untested: no test reported anything" if stage is Stage.TEST and build.untested else ""
    return _reasons(own) or untested or "passed"


def _reasons(gates: Iterable[GateResult]) -> str:
    return "; ".join(f"{gate.name}: {gate.reason}" for gate in gates)
