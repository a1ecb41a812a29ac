"""Runs a commit's steps, stage by stage, and judges what they report."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from services.build.analysis import Analysis
from services.build.app import App
from services.build.baseline import Baseline, fingerprints, new_findings
from services.build.build_log import BuildLog
from services.build.changed import coverage_since
from services.build.executor import Executor, Stopped, Workspace
from services.build.figure import Finding, Measure
from services.build.flaky import FlakyTest, limits
from services.build.gate import GateResult, effective, evaluate
from services.build.history_store import HistoryStore
from services.build.ledger import Ledger
from services.build.measures import Collected
from services.build.place import Places
from services.build.recall import compared_with
from services.build.remove import remove
from services.build.repository import Repositories, TrackedFile
from services.build.secret import Secrets
from services.build.step_runner import StepRunner
from shared.manifest import Gates, Manifest, Stage

LARGEST_READ_BYTES = 2**20  # of a file whose lines tell findings apart
STAGES = (Stage.BUILD, Stage.TEST, Stage.ANALYSIS)


@dataclass(frozen=True)
class Verdict:
    """Every gate's result. `untested`: no test reported anything. `baseline`: what later builds are compared with, if
    this one passes; None if it did not come so far."""

    gates: list[GateResult]
    flaky: list[FlakyTest]
    untested: bool
    baseline: Baseline | None = None


class Pipeline:
    """A failing step ends it: later steps and stages are not run, and gates whose figures were not reached
    are not judged; the gate `steps` says no."""

    def __init__(
        self,
        executor: Executor,
        analysis: Analysis,
        repositories: Repositories,
        history: HistoryStore,
        ledger: Ledger,
        log: BuildLog,
        secrets: Secrets,
    ) -> None:
        self._executor = executor
        self._analysis = analysis
        self._repositories = repositories
        self._history = history
        self._ledger = ledger
        self._log = log
        self._secrets = secrets

    async def judge(
        self, workspace: Workspace, app: App, manifest: Manifest, tracked: Sequence[TrackedFile]
    ) -> Verdict:
        """Raises Stopped."""
        steps = [step for stage in STAGES for step in manifest.steps if step.stage is stage]
        prepared, measures = await asyncio.gather(
            self._executor.prepare(workspace, self._log.output, self._ledger.stop), self._look_at_source(workspace)
        )
        if self._ledger.stop.is_set():
            raise Stopped
        if prepared.reason:
            raise RuntimeError(f"the workspace could not be made: it {prepared.reason}")
        tested = any(step.reports.junit for step in manifest.steps)
        gates = effective(app.gates, manifest.gates, tested=tested)
        previous = await self._previous(workspace)
        runner = StepRunner(
            self._executor,
            self._ledger,
            self._history,
            self._log,
            workspace,
            {file.blob for file in tracked},
            limits(app.flaky, manifest.flaky),
            self._secrets,
            reruns=all(result.passed for result in evaluate(gates, measures) if result.name in measures),
        )
        collected = Collected(Places(file.path for file in tracked))
        flaky: list[FlakyTest] = []
        for step in steps:
            end = await runner.run(step)
            await asyncio.to_thread(collected.add, end.reported, end.suite)
            flaky += end.suite.flaky if end.suite is not None else ()
            if end.failure:
                reached = collected.measures()
                results = [result for result in evaluate(gates, reached, previous) if result.name in reached]
                no = GateResult(name="steps", passed=False, reason=f"{step.name} {end.failure}")
                return Verdict([*results, no], flaky, collected.tests == 0)
        measures |= collected.measures()
        findings = await self._with_texts(workspace, measures, tracked)
        measures |= await self._compare(workspace, app, gates, measures, collected, findings)
        results = evaluate(gates, measures, previous)
        yes = GateResult(name="steps", passed=True, reason=f"{len(steps)} of {len(steps)} passed")
        baseline = Baseline(build=workspace.build, commit=workspace.commit, findings=fingerprints(findings))
        return Verdict([*results, yes], flaky, collected.tests == 0, baseline)

    async def _previous(self, workspace: Workspace) -> dict[str, float]:
        """The figures of the branch's last build that was judged."""
        branch = workspace.branch
        if branch is None:
            return {}
        last = await self._ledger.patiently(lambda: self._ledger.store.last_judged(workspace.app, branch))
        return {gate.name: gate.figure for gate in last.gates if gate.figure is not None} if last is not None else {}

    async def _compare(
        self,
        workspace: Workspace,
        app: App,
        gates: Gates,
        measures: dict[str, Measure],
        collected: Collected,
        findings: Sequence[Finding],
    ) -> dict[str, Measure]:
        """The gates that compare with an earlier build, where they are asked for."""
        found: dict[str, Measure] = {}
        if gates.changed_coverage is None and gates.new_findings is None:
            return found
        baseline = await compared_with(self._ledger, self._history, app)
        if gates.changed_coverage is not None and "coverage" in measures:
            found["changed_coverage"] = measures["coverage"]
            if measures["coverage"].figure is not None:
                found["changed_coverage"] = await asyncio.to_thread(
                    coverage_since, self._repositories, workspace.app, workspace.commit, baseline, collected.hits
                )
        if gates.new_findings is not None:
            found["new_findings"] = new_findings(findings, measures, baseline)
        return found

    async def _with_texts(
        self, workspace: Workspace, measures: dict[str, Measure], tracked: Sequence[TrackedFile]
    ) -> list[Finding]:
        """All findings, with the texts of their lines as the commit has them."""
        findings = [finding for measure in measures.values() for finding in measure.findings]
        named = {finding.offender.file for finding in findings}
        lines: dict[str | None, list[str]] = {}
        for file in tracked:
            if file.path in named and file.size <= LARGEST_READ_BYTES:
                data = await asyncio.to_thread(self._repositories.read, workspace.app, file)
                lines[file.path] = data.decode(errors="replace").split("\n")
        return [finding.with_text(lines.get(finding.offender.file, [])) for finding in findings]

    async def _look_at_source(self, workspace: Workspace) -> dict[str, Measure]:
        """The platform's own analysis, of the commit as it is: of a second checkout that no step has touched."""
        source = workspace.scratch.with_name(f"{workspace.scratch.name}.source")
        try:
            await asyncio.to_thread(self._repositories.checkout, workspace.app, workspace.commit, source)
            return await self._analysis.measure(source)
        finally:
            await asyncio.to_thread(remove, source)
