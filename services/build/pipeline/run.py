"""Runs one build, and reads from top to bottom: checkout, manifest, pipeline, seal, deploy."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from services.build.builds import build as domain
from services.build.builds.app import App
from services.build.builds.build import Build
from services.build.builds.build_recorder import BuildRecorder
from services.build.builds.build_store import BuildStore
from services.build.cache import cache_key
from services.build.cache.cache import BuildCache
from services.build.cache.cache_store import CacheStore
from services.build.executors.executor import Executor, SealRequest, Stop, Stopped, Unsealed, Workspace
from services.build.gates.baseline import Baseline
from services.build.gates.code_analysis import Analysis
from services.build.gates.gate import GateResult, number, refusal
from services.build.gates.history_store import HistoryStore
from services.build.gates.report_archive import ReportFiles
from services.build.gates.report_record import ReportDraft
from services.build.git.repository import SUBMODULE, Repositories, TrackedFile
from services.build.git.tree_limits import BadTree
from services.build.logs.build_log import BuildLog, BuildLogs
from services.build.manifest.manifest_loader import read_manifest
from services.build.manifest.manifest_parser import NAME, BadManifest
from services.build.pipeline.deadline import OverTime, TimeLimits, within
from services.build.pipeline.deploy_stage import ArtifactLost, DeployStage
from services.build.pipeline.deployer_client import DeployerClient
from services.build.pipeline.pipeline import Pipeline
from services.build.reports.metric import Offender
from services.build.secrets.secret import Secrets, opened
from services.build.secrets.secret_store import SecretStore
from services.build.system.safe_remove import remove
from shared.manifest import Manifest, Stage
from shared.models import Artifact, BuildState, Environment
from shared.security.vault import Vault

log = logging.getLogger(__name__)

ATTEMPTS = 5
OFFENDERS_LOGGED = 5
WHOLE = "the build"


@dataclass(frozen=True)
class BuildContext:
    """Holds what every run needs. `releases` is the folder of checkouts; `urls` returns an app's URLs, `git_url` its
    repository's, `build_url` that of a build's page; `vault` decrypts `secrets`."""

    store: BuildStore
    history: HistoryStore
    passed: CacheStore
    secrets: SecretStore
    vault: Vault
    repositories: Repositories
    executor: Executor
    analysis: Analysis
    logs: BuildLogs
    reports: ReportFiles
    handover: DeployerClient
    releases: Path
    urls: Callable[[str, Environment], list[str]]
    git_url: Callable[[str], str]
    build_url: Callable[[str], str]
    now: Callable[[], datetime]
    limits: TimeLimits
    steps_at_a_time: int


async def run_build(tools: BuildContext, build_id: str, stop: Stop) -> None:
    """Runs the build to its end, from wherever an earlier run left it. When `stop` is set it ends early: in the
    requested state, or, if the service itself is ending, without an end, to be resumed."""
    ledger = BuildRecorder(tools.store, build_id, stop, tools.now)
    with tools.logs.open(build_id) as build_log, contextlib.suppress(Stopped):
        await ledger.load()
        stored = await ledger.patiently(lambda: tools.secrets.all(ledger.build.app))
        secrets = await asyncio.to_thread(opened, stored, tools.vault)
        ledger.mask = secrets.mask
        build_log.hide(secrets.mask)
        run = _Run(tools, ledger, build_log, secrets)
        try:
            await run.carry_out()
        except Stopped:
            await run.stopped()
        except OverTime as error:
            await run.over_time(error)
        except Exception as error:
            log.exception("build %s", build_id)
            await run.end(BuildState.ERROR, f"an error of the platform: {type(error).__name__}: {error}")


class _Run:
    def __init__(self, tools: BuildContext, ledger: BuildRecorder, build_log: BuildLog, secrets: Secrets) -> None:
        self._tools = tools
        self._secrets = secrets
        self._ledger = ledger
        self._log = build_log
        self._recall = BuildCache(ledger, tools.passed, tools.history, tools.executor, tools.repositories)

    async def carry_out(self) -> None:
        tools, ledger, limits = self._tools, self._ledger, self._tools.limits
        if ledger.build.passed:
            self._log.say("--- the service was restarted; the deploy is continued")
        else:
            async with within(limits.whole_s, WHOLE):
                if not await self._passes():
                    return
        await self._recall.pass_on()
        if ledger.build.door:
            await self.end(BuildState.SUCCESS, f"passed; {ledger.build.branch} may have it")
            return
        if ledger.build.environment is None:
            await self.end(BuildState.SUCCESS, "passed; not deployed, for no environment belongs to it")
            return
        deployment = DeployStage(tools.handover, tools.executor, ledger, self._log, tools.urls)
        try:
            async with within(limits.deploy_s, "the deploy"):
                state, reason = await deployment.carry_out()
        except ArtifactLost:
            self._log.say("--- what was reused has been cleaned up meanwhile: the commit is built anew")
            await ledger.update(cache_key.not_reused)
            await self.carry_out()
        else:
            await self.end(state, reason)

    async def _passes(self) -> bool:
        """Builds and judges the commit, and seals the artifact; or reuses an earlier one. Returns True if the build
        passed."""
        tools, ledger, workspace = self._tools, self._ledger, self._workspace()
        leftovers = await tools.executor.end_leftovers(workspace)
        if ledger.build.state is BuildState.RUNNING:
            self._log.say(f"--- taken up again from the beginning; {leftovers} leftovers of the earlier run were ended")
        await ledger.update(lambda build: domain.started(build, ledger.now()))
        if ledger.build.attempt > ATTEMPTS:
            await self.end(BuildState.ERROR, f"the service ended {ATTEMPTS} times while this build ran")
            return False
        await ledger.update(lambda build: domain.with_changes(build, stage=Stage.BUILD))
        app = await ledger.patiently(lambda: tools.store.app(workspace.app))
        read, images = tools.repositories, tools.executor.builds_images
        async with within(tools.limits.checkout_s, "the reading of the commit"):
            try:
                tracked = await asyncio.to_thread(read.tracked, workspace.app, workspace.commit)
                manifest = await read_manifest(read, app, tracked, self._secrets, self._log, images=images)
            except (BadTree, BadManifest) as error:
                return await self._judged([_refused(error)], None)
        key = await self._recall.key(app, manifest)
        await ledger.update(lambda build: domain.with_changes(build, manifest=manifest, judgement=key))
        if not ledger.build.fresh and (earlier := await self._recall.find()) is not None:
            await self._reuse(earlier)
            return True
        return await self._builds(app, manifest, tracked)

    async def _builds(self, app: App, manifest: Manifest, tracked: Sequence[TrackedFile]) -> bool:
        tools, ledger, workspace = self._tools, self._ledger, self._workspace()
        async with within(tools.limits.checkout_s, "the checkout"):
            await asyncio.to_thread(tools.repositories.checkout, workspace.app, workspace.commit, workspace.folder)
        if any(file.mode == SUBMODULE for file in tracked):
            self._log.say("submodules are not supported; their folders stay empty")
        draft = ReportDraft(self._secrets.mask)
        pipeline = Pipeline(
            tools.executor,
            tools.analysis,
            tools.repositories,
            tools.history,
            ledger,
            self._log,
            self._secrets,
            draft,
            tools.steps_at_a_time,
        )
        try:
            verdict = await pipeline.judge(workspace, app, manifest, tracked)
        finally:  # also of a build that is stopped
            if draft.begun:
                await asyncio.to_thread(lambda: tools.reports.write(workspace.build, draft.report()))
        await ledger.update(lambda build: domain.with_changes(build, flaky=verdict.flaky))
        return await self._judged(verdict.gates, verdict.untested, verdict.baseline)

    async def _reuse(self, earlier: Build) -> None:
        """Records the reuse; nothing of the commit is run. (An earlier attempt may have run, and died.)"""
        await self._tools.executor.discard(self._workspace())
        await asyncio.to_thread(remove, self._workspace().folder)
        which = earlier.reused or earlier.id
        same = "passed with the same commit, manifest and gates; nothing is built again"
        self._log.say(f"--- reused: {which} {same}: {self._tools.build_url(which)}")
        await self._ledger.update(lambda build: cache_key.reused(build, earlier, self._ledger.now()))

    async def _judged(self, gates: list[GateResult], untested: bool | None, baseline: Baseline | None = None) -> bool:
        """Records the gates; returns True if all passed and the artifact is sealed."""
        self._log.say("--- gates")
        for gate in gates:
            trend = f"  ({gate.trend}, was {number(gate.previous)})" if gate.trend and gate.previous is not None else ""
            self._log.say(f"    {'passed' if gate.passed else 'FAILED'}  {gate.name:<16}  {gate.reason}{trend}")
            for offender in gate.offenders[: 0 if gate.passed else OFFENDERS_LOGGED]:
                self._log.say(f"              {offender}")
        if untested:
            self._log.say("    untested: no test reported anything")
        await self._ledger.update(lambda build: domain.with_changes(build, gates=gates, untested=untested))
        if reason := refusal(gates):
            await self._recall.forget()
            await self.end(BuildState.FAILURE, reason)
            return False
        return await self._seal(baseline)

    async def _seal(self, baseline: Baseline | None) -> bool:
        workspace, begin_byte = self._workspace(), self._log.size
        try:
            async with within(self._tools.limits.seal_s, "the sealing of what passed"):
                artifact = await self._artifact(workspace)
        except Unsealed as error:
            excerpt = domain.excerpt(self._log.tail(begin_byte))
            await self._ledger.update(lambda build: domain.with_changes(build, excerpt=excerpt))
            await self.end(BuildState.FAILURE, f"passed its gates, but {error}")
            return False
        sealed_at = self._ledger.now()
        await self._tools.executor.discard(workspace)
        if baseline is not None:
            await self._recall.remember(baseline)
        await self._ledger.update(lambda build: domain.sealed(build, artifact, sealed_at))
        return True

    async def _artifact(self, workspace: Workspace) -> Artifact:
        """Returns the sealed artifact. Raises Unsealed and Stopped."""
        tools, manifest = self._tools, self._ledger.build.manifest
        command = manifest.run.command if manifest else None
        volumes = [volume.path for volume in manifest.volumes] if manifest else []
        source = workspace.scratch.with_name(f"{workspace.scratch.name}.sealed")
        at = await asyncio.to_thread(tools.repositories.committed_at, workspace.app, workspace.commit)
        delivery = SealRequest(source, command, at, tools.git_url(workspace.app), volumes)
        try:
            if tools.executor.builds_images:
                self._log.say(f"--- image: of commit {workspace.commit}")
                await asyncio.to_thread(tools.repositories.checkout, workspace.app, workspace.commit, source)
            return await tools.executor.seal(workspace, delivery, self._log.output, self._ledger.stop)
        finally:
            await asyncio.to_thread(remove, source)

    async def stopped(self) -> None:
        """Ends the build in the requested state, if one was requested. All processes have ended before."""
        await self._ledger.load()
        stop = self._ledger.build.stop
        if stop is not None and not self._ledger.build.ended:
            await self.end(stop.state, stop.reason)

    async def over_time(self, error: OverTime) -> None:
        """Ends the build after a time limit. The limit of the whole is the commit's fault, the others are the
        platform's."""
        ledger, state = self._ledger, BuildState.FAILURE if error.phase == WHOLE else BuildState.ERROR
        await ledger.load()
        steps = ", ".join(step.name for step in ledger.build.steps if step.state == "running")
        if state is BuildState.FAILURE:
            excerpt = domain.excerpt(self._log.tail(0))
            await ledger.update(lambda build: domain.with_changes(build, excerpt=excerpt))
        waiting = f"; see release {ledger.build.release}" if ledger.build.release else ""
        await self.end(state, f"{error}{f', in the step {steps}' if steps else ''}{waiting}")

    async def end(self, state: BuildState, reason: str) -> None:
        """Ends the build. The line goes to the log before the state is stored: followers leave at the final state."""
        build = self._ledger.build
        if state is BuildState.SUCCESS and build.flaky:
            reason += f"; passed with flaky tests: {', '.join(each.test for each in build.flaky)}"
        if not build.passed:
            workspace = self._workspace()
            await self._tools.executor.discard(workspace)
            await asyncio.to_thread(remove, workspace.folder)
        self._log.say(f"{build.id} {state}: {reason}")
        await self._ledger.end(state, reason)

    def _workspace(self) -> Workspace:
        build = self._ledger.build
        folder = self._tools.releases / build.app
        return Workspace(
            build=build.id,
            app=build.app,
            commit=build.commit,
            branch=build.branch,
            number=build.number,
            folder=folder / build.id,
            scratch=folder / f".{build.id}",
        )


def _refused(error: BadTree | BadManifest) -> GateResult:
    if isinstance(error, BadTree):
        return GateResult(name="commit", passed=False, reason=f"it {error}")
    first, *more = error.faults
    offenders = [Offender(file=NAME, line=fault.line, message=f"{fault.field}: {fault.detail}") for fault in more]
    return GateResult(name="manifest", passed=False, reason=str(first), offenders=offenders)
