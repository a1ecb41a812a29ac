"""Runs the steps of a commit, stage by stage, and evaluates its gates."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from services.build.analysis.exclusions import ATTRIBUTES, Exclusions, declared
from services.build.builds import build as domain
from services.build.builds.app import App
from services.build.builds.build_recorder import BuildRecorder
from services.build.cache.cache import compared_with, known_before
from services.build.executors.executor import Workspace
from services.build.gates.baseline import Baseline, fingerprints, first_known, new_findings
from services.build.gates.diff_coverage import coverage_since
from services.build.gates.flaky import FlakyTest, limits
from services.build.gates.gate import GateResult, effective, evaluate
from services.build.gates.known_findings import KnownFindings
from services.build.gates.remedy import with_remedies
from services.build.gates.report_collection import GATE_OF_REPORT, Collected
from services.build.gates.report_record import ReportRecorder
from services.build.git.repository import TrackedFile
from services.build.logs.build_log import BuildLog
from services.build.manifest.step_graph import concurrent_pairs, in_order, reason_to_skip, selected
from services.build.pipeline.build_context import BuildContext
from services.build.pipeline.step_runner import StepEnd, StepRunner
from services.build.pipeline.step_scheduler import run_steps
from services.build.reports.metric import Measure
from services.build.reports.path_resolver import CONTAINER_CHECKOUT, PathResolver, go_module
from services.build.secrets.secret import Secrets
from services.build.system.command import uncancelled
from services.build.system.safe_remove import remove
from services.build.system.stop import Stopped
from shared.manifest import Gates, Manifest, Step
from shared.runtime.loops import cancel

LARGEST_READ_BYTES = 2**20  # of a file whose lines distinguish findings
Ends = Sequence[tuple[Step, StepEnd]]


@dataclass(frozen=True)
class Verdict:
    """Holds the results of all gates of a build, and its flaky tests."""

    gates: list[GateResult]
    flaky: list[FlakyTest]
    untested: bool
    """True if the build has read no test report."""
    baseline: Baseline | None = None
    """Baseline for later builds, if this one passes; None if a step failed."""


class Pipeline:
    """Runs the steps of one build and evaluates its gates. After a failed step no further step begins, the gate `steps`
    fails, and gates that have no figure by then are left out of the verdict.
    """

    def __init__(
        self,
        context: BuildContext,
        recorder: BuildRecorder,
        log: BuildLog,
        secrets: Secrets,
        report_recorder: ReportRecorder,
    ) -> None:
        self._context = context
        self._git = context.repositories
        self._recorder = recorder
        self._log = log
        self._secrets = secrets
        self._report_recorder = report_recorder

    async def judge(
        self, workspace: Workspace, app: App, manifest: Manifest, tracked: Sequence[TrackedFile]
    ) -> Verdict:
        """Runs the commit's steps, evaluates the gates and returns the verdict. `tracked` holds the commit's files.
        Raises Stopped once a stop of the build is requested.
        """
        steps = selected(in_order(manifest.steps), workspace.branch, self._recorder.build.effective_environment)
        baseline, stop = await compared_with(self._recorder, self._context.history, app), self._recorder.stop
        known = await known_before(self._recorder, self._context.history, app, baseline)
        gates = effective(app.gates, manifest.gates, tested=any(step.reports.junit for step in steps))
        exclusions = Exclusions(app.exclude, *((baseline.exclude, baseline.build) if baseline else ()))
        analysing = asyncio.create_task(self._analyse_source(workspace, exclusions, gates))
        try:
            prepared = await self._context.executor.prepare(workspace, self._log.output, stop)
            if prepared.reason and not stop.is_set():
                raise RuntimeError(f"the workspace could not be made: it {prepared.reason}")
            measures = {} if stop.is_set() else await analysing
        finally:
            await cancel([analysing])
        if stop.is_set():
            raise Stopped
        measures = await self._counted(workspace, measures, tracked, known)
        previous = await self._previous(workspace)
        runner = StepRunner(
            self._context.executor,
            self._recorder,
            self._context.history,
            self._log,
            workspace,
            {file.blob for file in tracked},
            limits(app.flaky, manifest.flaky),
            self._secrets,
            reruns=all(result.passed for result in evaluate(gates, measures) if result.name in measures),
        )
        missing = await self._skip(runner, manifest.steps)
        collected = Collected(await self._resolver(workspace, tracked))
        self._report_recorder.begin(collected, measures)
        ends = await self._run(runner, steps, collected)
        first = baseline is None and known is None
        flaky = [each for _, end in ends if end.suite is not None for each in end.suite.flaky]
        if failed := next(((step, end) for step, end in ends if end.failure), None):
            reached = await self._counted(workspace, collected.measures(), tracked, known)
            judged = [result for result in evaluate(gates, reached, previous) if result.name in reached]
            results = with_remedies(judged, app.name, app.gates, manifest.gates, exclude=app.exclude, first=first)
            results.append(await self._failed_steps(runner, steps, ends, *failed))
            return Verdict(results, flaky, collected.tests == 0)
        measures |= missing | await self._counted(workspace, collected.measures(), tracked, known)
        ours = Baseline(
            build=workspace.build,
            commit=workspace.commit,
            findings=fingerprints([finding for measure in measures.values() for finding in measure.findings]),
            exclude=await self._declared(workspace, manifest, tracked),
            known=dict(known.kept) if known else None,
        )
        measures |= await self._compare(workspace, app, baseline, ours, gates, measures, collected)
        judged = evaluate(gates, measures, previous)
        results = with_remedies(judged, app.name, app.gates, manifest.gates, exclude=app.exclude, first=first)
        results.append(_passed_steps(ends))
        if misfit := await self._context.executor.misfit(workspace):
            results.append(GateResult(name="commit", passed=False, reason=misfit))
        return Verdict(results, flaky, collected.tests == 0, ours)

    async def _resolver(self, workspace: Workspace, tracked: Sequence[TrackedFile]) -> PathResolver:
        """Returns the resolver that maps paths in reports to files of the commit. Reports may name the checkout's
        folder on this machine or the one in a container, or a Go module.
        """
        modules = {}
        for file in tracked:
            if PurePosixPath(file.path).name == "go.mod" and file.size <= LARGEST_READ_BYTES:
                data = await self._git.in_thread(self._git.read, workspace.app, file)
                if name := go_module(data):
                    modules[name] = str(PurePosixPath(file.path).parent)
        checkouts = (str(workspace.folder), str(workspace.folder.resolve()), CONTAINER_CHECKOUT)
        return PathResolver((file.path for file in tracked), checkouts, modules)

    async def _skip(self, runner: StepRunner, steps: Sequence[Step]) -> dict[str, Measure]:
        """Records as skipped those steps whose conditions this build does not meet. Returns a measure without a figure
        for each gate whose report one of these steps would have written, with the reason.
        """
        build, missing = self._recorder.build, dict[str, Measure]()
        for step in in_order(steps):
            if reason := reason_to_skip(step, build.branch, build.effective_environment):
                await runner.skip(step, reason)
                for kind in step.reports.by_kind():
                    why = f"{step.name}, which would report it, was skipped: it {reason}"
                    missing.setdefault(GATE_OF_REPORT[kind], Measure(None, why))
        return missing

    async def _run(self, runner: StepRunner, steps: Sequence[Step], collected: Collected) -> list[tuple[Step, StepEnd]]:
        """Runs the steps; returns them with their results, in the order in which they ended. Adds each step's reports
        to `collected` once the step has ended rather than at the end, since the build may be stopped before the next
        step.
        """
        together = {step.name for pair in concurrent_pairs(steps) for step in pair}
        one_at_a_time = asyncio.Lock()

        async def run(step: Step) -> StepEnd:
            end = await runner.run(step, f"{step.name} | " if step.name in together else "")
            async with one_at_a_time:
                await uncancelled(asyncio.to_thread(collected.add, end.reported, end.suite))
                self._report_recorder.ran(step.name, end.reported)
            return end

        return await run_steps(steps, run, self._context.steps_at_a_time)

    async def _failed_steps(
        self, runner: StepRunner, steps: Sequence[Step], ends: Ends, failed: Step, end: StepEnd
    ) -> GateResult:
        """Returns the gate `steps` as failed because of the step `failed`, which ended with `end`. Records the steps
        that did not run as skipped.
        """
        await self._recorder.update(lambda build: domain.with_changes(build, excerpt=end.excerpt))
        ran = {step.name for step, _ in ends}
        for step in steps:
            if step.name not in ran:
                await runner.skip(step, f"{failed.name} failed")
        return GateResult(name="steps", passed=False, reason=f"{failed.name} {end.failure}")

    async def _previous(self, workspace: Workspace) -> dict[str, float]:
        """Returns gate → figure of the branch's last build whose gates were evaluated; empty if the build has no branch
        or the branch has no such build.
        """
        branch = workspace.branch
        if branch is None:
            return {}
        last = await self._recorder.patiently(lambda: self._recorder.store.last_judged(workspace.app, branch))
        return {gate.name: gate.figure for gate in last.gates if gate.figure is not None} if last is not None else {}

    async def _compare(
        self,
        workspace: Workspace,
        app: App,
        baseline: Baseline | None,
        ours: Baseline,
        gates: Gates,
        measures: dict[str, Measure],
        collected: Collected,
    ) -> dict[str, Measure]:
        """Returns the measures of the gates `changed_coverage` and `new_findings`, each only if it has a threshold.
        They compare the build's measures and findings with those of `baseline`. Without a baseline, the findings that
        `ours`, the baseline for later builds, lists as known do not count as new.
        """
        found: dict[str, Measure] = {}
        if gates.changed_coverage is not None and "coverage" in measures:
            found["changed_coverage"] = measures["coverage"]
            if measures["coverage"].figure is not None:
                found["changed_coverage"] = await self._git.in_thread(
                    coverage_since,
                    self._git,
                    workspace.app,
                    self._recorder.build.tree,
                    baseline,
                    domain.tree_at(baseline.commit, app.root) if baseline is not None else None,
                    collected.hits,
                    collected.other_hits.keys(),
                )
        if gates.new_findings is not None:
            findings = [finding for measure in measures.values() for finding in measure.findings]
            found["new_findings"] = new_findings(findings, measures, baseline or first_known(ours))
        return found

    async def _counted(
        self,
        workspace: Workspace,
        measures: Mapping[str, Measure],
        tracked: Sequence[TrackedFile],
        known: KnownFindings | None,
    ) -> dict[str, Measure]:
        """Returns the measures without those findings that `known` excuses, because the app had them before. Adds to
        each finding the text of its line in the commit, if the file is readable.
        """
        named = {finding.offender.file for measure in measures.values() for finding in measure.findings}
        lines: dict[str | None, list[str]] = {}
        for file in tracked:
            if file.path in named and file.size <= LARGEST_READ_BYTES:
                data = await self._git.in_thread(self._git.read, workspace.app, file)
                lines[file.path] = data.decode(errors="replace").split("\n")
        counted = {}
        for gate, measure in measures.items():
            findings = tuple(each.with_text(lines.get(each.offender.file, [])) for each in measure.findings)
            measure = replace(measure, findings=findings)
            counted[gate] = known.without(gate, measure) if known else measure
        return counted

    async def _declared(self, workspace: Workspace, manifest: Manifest, tracked: Sequence[TrackedFile]) -> list[str]:
        """Returns the patterns of files that the commit declares as vendored or generated, in `.gitattributes` and its
        manifest. Later builds leave these files out of the measures of functions.
        """
        [attributes] = [
            await self._git.in_thread(self._git.read, workspace.app, file)
            for file in tracked
            if file.path == ATTRIBUTES and file.size <= LARGEST_READ_BYTES
        ] or [b""]
        return declared(attributes, manifest.exclude)

    async def _analyse_source(self, workspace: Workspace, exclusions: Exclusions, gates: Gates) -> dict[str, Measure]:
        """Returns the measures of the platform's own analysis, such as the complexity of functions. The analysis runs
        on a fresh checkout that no step can change.
        """
        source = workspace.scratch.with_name(f"{workspace.scratch.name}.source")
        try:
            await uncancelled(self._git.in_thread(self._git.checkout, workspace.app, self._recorder.build.tree, source))
            return await self._context.analysis.measure(source, exclusions, gates)
        finally:
            await uncancelled(self._git.in_thread(remove, source))


def _passed_steps(ends: Ends) -> GateResult:
    """Returns the gate `steps` as passed. Its reason names the failed steps that `failure: ignore` excuses."""
    ignored = [f"; {step.name} {end.ignored}, which is ignored" for step, end in ends if end.ignored]
    reason = f"{len(ends) - len(ignored)} of {len(ends)} passed{''.join(ignored)}"
    return GateResult(name="steps", passed=True, reason=reason)
