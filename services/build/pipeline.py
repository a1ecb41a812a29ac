"""Runs a commit's steps, stage by stage, and judges what they report."""

import asyncio
import shutil
from collections.abc import Sequence

from services.build import build as domain
from services.build import report_file
from services.build.analysis import Analysis
from services.build.app import App
from services.build.build import StepRun
from services.build.build_log import BuildLog
from services.build.executor import Executor, Order, Stopped, Workspace
from services.build.gate import GateResult, Measure, effective, evaluate
from services.build.ledger import Ledger
from services.build.measures import Collected
from services.build.report import Unreadable
from services.build.repository import Repositories, TrackedFile
from shared.manifest import Manifest, Stage, Step

STAGES = (Stage.BUILD, Stage.TEST, Stage.ANALYSIS)
GATE_OF_REPORT = {"junit": "test_failures", "coverage": "coverage", "sarif": "findings"}


class Pipeline:
    """A failing step ends it: later steps and stages are not run, and gates whose figures were not reached
    are not judged; the gate `steps` says no."""

    def __init__(
        self, executor: Executor, analysis: Analysis, repositories: Repositories, ledger: Ledger, log: BuildLog
    ) -> None:
        self._executor = executor
        self._analysis = analysis
        self._repositories = repositories
        self._ledger = ledger
        self._log = log
        self._collected = Collected()

    async def judge(
        self, workspace: Workspace, app: App, manifest: Manifest, tracked: Sequence[TrackedFile]
    ) -> list[GateResult]:
        """Every gate's result. Raises Stopped."""
        steps = [step for stage in STAGES for step in manifest.steps if step.stage is stage]
        committed = {file.blob for file in tracked}
        prepared, measures = await asyncio.gather(
            self._executor.prepare(workspace, self._log.output, self._ledger.stop), self._look_at_source(workspace)
        )
        if self._ledger.stop.is_set():
            raise Stopped
        if prepared.reason:
            raise RuntimeError(f"the workspace could not be made: it {prepared.reason}")
        for step in steps:
            run = await self._run(step, workspace, committed)
            if run.state == "failure":
                return self._after_failure(run, app, manifest)
        tested = any(step.reports.junit for step in manifest.steps)
        gates = effective(app.gates, manifest.gates, tested=tested)
        results = evaluate(gates, measures | self._collected.measures())
        return [*results, GateResult(name="steps", passed=True, reason=f"{len(steps)} of {len(steps)} passed")]

    @property
    def untested(self) -> bool:
        return self._collected.tests == 0

    async def _run(self, step: Step, workspace: Workspace, committed: set[str]) -> StepRun:
        ledger = self._ledger
        await ledger.update(lambda build: domain.step_started(build, step.name, step.stage, ledger.now()))
        self._log.say(f"--- {step.stage}: {step.name}")
        start = await asyncio.to_thread(_before, step, workspace)
        begin_byte = self._log.size
        reports = [path for _, path in step.reports if path is not None]
        order = Order(step.commands, step.timeout, step.environment, step.image, reports)
        outcome = await self._executor.run(workspace, order, self._log.output, ledger.stop)
        if ledger.stop.is_set():
            raise Stopped
        for refused in await asyncio.to_thread(self._collect, step, workspace, start, committed):
            self._log.say(f"    the report does not count: {refused}")
        if outcome.reason:
            excerpt = domain.excerpt(self._log.tail(begin_byte))
            await ledger.update(lambda build: domain.with_changes(build, excerpt=excerpt))
            self._log.say(f"    {step.name} {outcome.reason}")
        await ledger.update(lambda build: domain.step_finished(build, outcome.exit_code, outcome.reason, ledger.now()))
        return ledger.build.steps[-1]

    def _collect(
        self, step: Step, workspace: Workspace, start: report_file.StepStart, committed: set[str]
    ) -> list[str]:
        """Reads the step's reports; returns why some do not count."""
        refused = []
        for kind, path in step.reports:
            if path is not None:
                try:
                    data = report_file.read_fresh(workspace.folder, path, start, committed)
                    self._collected.add(GATE_OF_REPORT[kind], data, start.at)
                except Unreadable as error:
                    refused.append(f"{path} {error}")
                    self._collected.refuse(GATE_OF_REPORT[kind], refused[-1])
        return refused

    def _after_failure(self, run: StepRun, app: App, manifest: Manifest) -> list[GateResult]:
        gates = effective(app.gates, manifest.gates, tested=True)
        reached = self._collected.measures()
        results = [result for result in evaluate(gates, reached) if result.name in reached]
        return [*results, GateResult(name="steps", passed=False, reason=f"{run.name} {run.reason}")]

    async def _look_at_source(self, workspace: Workspace) -> dict[str, Measure]:
        """The platform's own analysis, of the commit as it is: of a second checkout that no step has touched."""
        source = workspace.scratch.with_name(f"{workspace.scratch.name}.source")
        try:
            await asyncio.to_thread(self._repositories.checkout, workspace.app, workspace.commit, source)
            return await self._analysis.measure(source)
        finally:
            await asyncio.to_thread(shutil.rmtree, source, ignore_errors=True)


def _before(step: Step, workspace: Workspace) -> report_file.StepStart:
    workspace.scratch.mkdir(parents=True, exist_ok=True)  # it is the steps' HOME: the last one may have removed it
    for _, path in step.reports:
        if path is not None:
            report_file.clear(workspace.folder, path)
    return report_file.begin(workspace.scratch)
