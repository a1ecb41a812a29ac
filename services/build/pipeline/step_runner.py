"""Runs one step, reads its reports, and runs it again if its failing tests may be flaky."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from services.build.builds import build as domain
from services.build.builds.build_recorder import BuildRecorder
from services.build.builds.build_steps import (
    again,
    step_excused,
    step_finished,
    step_ignored,
    step_skipped,
    step_started,
)
from services.build.executors.executor import Executor, Order, Outcome, ServiceOrder, Workspace
from services.build.gates.flaky import (
    PastRun,
    Quarantine,
    Suite,
    failed_lately,
    forgotten,
    is_worth_a_rerun,
    past_run,
    quarantined,
    weigh,
)
from services.build.gates.history_store import HistoryStore
from services.build.gates.report_collection import Reported, collect
from services.build.logs.build_log import BuildLog, Channel
from services.build.reports import report_file
from services.build.reports.junit import CaseCount
from services.build.reports.path_resolver import working_folders
from services.build.secrets.secret import Secrets
from services.build.system.path_glob import is_glob
from services.build.system.safe_remove import own_folder
from services.build.system.stop import Stopped
from shared.manifest import Flaky, Service, Step

NAMES_SHOWN = 5


@dataclass(frozen=True)
class StepEnd:
    """Holds the result of running a step: its failure, its reports and its tests."""

    failure: str
    """Reason of the failure; empty if the step succeeded or its failure is ignored."""
    reported: Reported
    """Parsed reports of the step's last run."""
    suite: Suite | None
    """Verdict on the step's tests; None if the step wrote no test report."""
    ignored: str = ""
    """Reason of a failure that `failure: ignore` excuses; else empty."""
    excerpt: str = ""
    """Output of the step from the first line on that looks like a failure; empty if the step did not fail."""


class StepRunner:
    """Runs the steps of one build. `committed` holds the blob ids of the commit's files; a report must not be a copy of
    one. `limits` are those for flaky tests. `reruns` is False if a gate has failed before the steps: running failed
    tests again could then not save the build.
    """

    def __init__(
        self,
        executor: Executor,
        recorder: BuildRecorder,
        history: HistoryStore,
        log: BuildLog,
        workspace: Workspace,
        committed: Collection[str],
        limits: Flaky,
        secrets: Secrets,
        *,
        reruns: bool,
    ) -> None:
        self._executor = executor
        self._recorder = recorder
        self._history = history
        self._log = log
        self._workspace = workspace
        self._committed = committed
        self._limits = limits
        self._secrets = secrets
        self._reruns = reruns

    async def run(self, step: Step, prefix: str = "") -> StepEnd:
        """Runs the step and returns its result. Each line of its output in the log begins with `prefix`. Raises Stopped
        once a stop of the build is requested.
        """
        log = self._log.channel(prefix)
        end = await self._run_and_rerun(step, log)
        if not end.failure:
            return end
        if step.failure == "ignore":
            await self._recorder.update(lambda build: step_ignored(build, step.name))
            log.say(f"    {step.name} {end.failure}; this is ignored")
            return replace(end, failure="", ignored=end.failure)
        return replace(end, excerpt=domain.excerpt(log.tail()))

    async def skip(self, step: Step, reason: str) -> None:
        """Records, in the log and in the build, that the step is skipped for `reason`. If a stop of the build was
        requested, only the log gets the line, and Stopped is raised.
        """
        self._log.say(f"--- {step.stage}: {step.name} is skipped: {reason}")
        line, now = self._log.lines, self._recorder.now()
        await self._recorder.update(lambda build: step_skipped(build, step.name, step.stage, reason, now, line))

    async def _run_and_rerun(self, step: Step, log: Channel) -> StepEnd:
        app = self._workspace.app
        past = await self._recorder.patiently(lambda: self._history.runs(app)) if step.reports.junit else []
        name = step.name
        outcome, reported = await self._run_once(step, name, past, log)
        if reported.cases is None:
            return StepEnd(outcome.reason, reported, None)
        runs = [reported.cases]
        known = await self._recorder.patiently(lambda: self._history.quarantines(app))
        if self._reruns and is_worth_a_rerun(reported.cases, step.name, known, self._limits):
            log.say(f"    run again, to see whether this is flaky: {_names(reported.cases.failed)}")
            name = again(step.name)
            outcome, reported = await self._run_once(step, name, past, log)
            runs += [reported.cases] if reported.cases is not None else []
        suite = await self._judge_tests(step, runs, past, known, log)
        if outcome.reason and self._is_excused(outcome, runs[-1], reported, suite):
            reason = f"{outcome.reason}, for flaky tests only: {_names(suite.excused)}"
            await self._recorder.update(lambda build: step_excused(build, name, reason))
            log.say(f"    {step.name} {reason}; this does not count")
            outcome = Outcome(outcome.exit_code)
        reported.cases = runs[-1]
        return StepEnd(outcome.reason, reported, suite)

    async def _run_once(self, step: Step, name: str, past: Sequence[PastRun], log: Channel) -> tuple[Outcome, Reported]:
        recorder, workspace = self._recorder, self._workspace
        log.say(f"--- {step.stage}: {name}")
        line = self._log.lines
        await recorder.update(lambda build: step_started(build, name, step.stage, recorder.now(), line))
        start = await asyncio.to_thread(_before, step, workspace)
        log.forget()
        try:
            outcome = await self._executor.run(workspace, self._order(step, past), log.output, recorder.stop)
        finally:
            log.flush()
        if recorder.stop.is_set():
            raise Stopped
        reported = await asyncio.to_thread(
            collect, step.reports, workspace.folder, start, self._committed, self._secrets.mask
        )
        reported.working = working_folders(step.commands)
        for refused in reported.unreadable.values():
            log.say(f"    the report does not count: {refused}")
        if outcome.reason:
            log.say(f"    {name} {outcome.reason}")
        await recorder.update(
            lambda build: step_finished(build, name, outcome.exit_code, outcome.reason, recorder.now())
        )
        return outcome, reported

    async def _judge_tests(
        self,
        step: Step,
        runs: Sequence[CaseCount],
        past: Sequence[PastRun],
        known: Mapping[str, Quarantine],
        log: Channel,
    ) -> Suite:
        """Returns the verdict on the step's tests. Stores the tests' results and quarantines at once, so that they are
        kept however the build ends.
        """
        workspace, now = self._workspace, self._recorder.now()
        earlier = [run for run in past if run.commit == workspace.commit and run.step == step.name]
        suite = weigh(runs, earlier, step.name, known, self._limits.at_most or 0, now)
        run = past_run(runs, workspace.build, workspace.commit, step.name, now)
        put = quarantined(suite.flipped, known, workspace.build, step.name, now)
        drop = forgotten(known, now)
        await self._recorder.patiently(lambda: self._history.record(workspace.app, run, put, drop))
        for flaky in suite.flaky:
            log.say(f"    flaky: {flaky}")
        return suite

    def _is_excused(self, outcome: Outcome, cases: CaseCount, reported: Reported, suite: Suite) -> bool:
        """Returns True if the failure of a step does not count: its last command exited by itself with an error, all
        its reports were read, and each failed test is flaky, so that its failure does not count.
        """
        explained = bool(cases.failed) and not cases.unnamed and cases.failed.keys() <= suite.excused
        whole = reported.cases is cases and not reported.unreadable
        ended_itself = outcome.exit_code is not None and 0 < outcome.exit_code < 128
        return ended_itself and outcome.skipped == 0 and explained and whole and not suite.failures

    def _order(self, step: Step, past: Sequence[PastRun]) -> Order:
        lately = {"SLIPWAY_FAILED_LATELY": "\n".join(failed_lately(past, step.name))}
        environment = {**lately, **step.environment, **self._secrets.of(step)}
        reports = [path for paths in step.reports.by_kind().values() for path in paths]
        services = [self._service(service) for service in step.services]
        return Order(step.commands, step.timeout, environment, step.image, reports, services)

    def _service(self, service: Service) -> ServiceOrder:
        return ServiceOrder(
            name=service.name,
            image=service.image,
            command=service.command,
            environment={**service.environment, **self._secrets.of(service)},
            port=service.ready.port,
            ready=service.ready.command,
            timeout_s=service.timeout,
        )


def _before(step: Step, workspace: Workspace) -> report_file.StepStart:
    own_folder(workspace.scratch)  # this is the steps' HOME, which the last step may have removed or replaced
    for paths in step.reports.by_kind().values():
        for path in paths:
            if not is_glob(path):  # a glob may match files of other steps, so only new files count for it
                report_file.clear(workspace.folder, path)
    return report_file.begin(workspace.scratch)


def _names(tests: Collection[str]) -> str:
    ordered = sorted(tests)
    more = f" and {len(ordered) - NAMES_SHOWN} more" if len(ordered) > NAMES_SHOWN else ""
    return ", ".join(ordered[:NAMES_SHOWN]) + more
