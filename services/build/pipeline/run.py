"""Runs one build: checkout, manifest, steps and gates, artifact, deployment."""

import asyncio
import contextlib
import logging
from collections.abc import Sequence

from services.build.builds import build as domain
from services.build.builds.app import App
from services.build.builds.build import Build
from services.build.builds.build_recorder import BuildRecorder
from services.build.cache import cache_key
from services.build.cache.cache import BuildCache
from services.build.executors.executor import SealRequest, Unsealed, Workspace
from services.build.gates.baseline import Baseline
from services.build.gates.gate import GateResult, log_lines, refusal
from services.build.gates.report_record import ReportRecorder
from services.build.git.repository import SUBMODULE, TrackedFile
from services.build.git.tree_limits import BadTree
from services.build.logs.build_log import BuildLog
from services.build.manifest.manifest_loader import LoadedManifest, with_port
from services.build.manifest.manifest_parser import NAME, BadManifest
from services.build.pipeline.build_context import BuildContext
from services.build.pipeline.commit_reading import read_commit
from services.build.pipeline.deadline import OverTime, within
from services.build.pipeline.deploy_stage import ArtifactLost, DeployStage
from services.build.pipeline.pipeline import Pipeline
from services.build.pipeline.platform_fault import error_reason, full_disk
from services.build.pipeline.silence import broken_silence, doing
from services.build.reports.metric import Offender
from services.build.secrets.secret import Secrets, opened
from services.build.system.command import uncancelled
from services.build.system.safe_remove import remove
from services.build.system.stop import Stop, Stopped
from shared.manifest import Manifest, Stage
from shared.models import Artifact, BuildState

log = logging.getLogger(__name__)

ATTEMPTS = 5
PYTHON = ("python", "pip")
WHOLE = "the build"


async def run_build(context: BuildContext, build_id: str, stop: Stop) -> None:
    """Runs the build to its end. A build that the service left unfinished when it last ended begins again or, if it had
    passed, is deployed. When `stop` is set, the run ends early. If someone requested a stop of the build, the build
    then ends in the requested state; otherwise (the service ends) it stays unfinished, and the next start of the
    service runs it again."""
    with context.logs.open(build_id) as build_log, contextlib.suppress(Stopped):
        recorder = BuildRecorder(context.store, build_id, stop, context.now, build_log.say)
        await recorder.load()
        stored = await recorder.patiently(lambda: context.secrets.all(recorder.build.app))
        secrets = await asyncio.to_thread(opened, stored, context.vault)
        recorder.mask = secrets.mask
        build_log.hide(secrets.mask)
        run = _Run(context, recorder, build_log, secrets)
        try:
            async with broken_silence(build_log, lambda: doing(recorder.build)):
                await run.carry_out()
        except Stopped:
            await run.stopped()
        except OverTime as error:
            await run.over_time(error)
        except Exception as error:
            log.exception("build %s", build_id)
            await run.end(BuildState.ERROR, error_reason(recorder.build, error))


class _Run:
    def __init__(self, context: BuildContext, recorder: BuildRecorder, build_log: BuildLog, secrets: Secrets) -> None:
        self._context = context
        self._git = context.repositories
        self._secrets = secrets
        self._recorder = recorder
        self._log = build_log
        self._loaded: LoadedManifest | None = None
        self._cache = BuildCache(recorder, context.cache, context.history, context.executor, self._git)

    async def carry_out(self) -> None:
        context, recorder, limits = self._context, self._recorder, self._context.limits
        if recorder.build.stop is not None:
            raise Stopped
        if recorder.build.passed:
            self._log.say("--- the service was restarted; the deploy is continued")
        else:
            async with within(limits.whole_s, WHOLE):
                if not await self._passes():
                    return
        await self._cache.pass_on()
        if recorder.build.door:
            await self.end(BuildState.SUCCESS, f"passed; its push to {recorder.build.branch} is accepted")
            return
        if recorder.build.environment is None:
            await self.end(BuildState.SUCCESS, "passed; not deployed, because its branch has no environment")
            return
        deploy = DeployStage(context, recorder, self._log)
        try:
            async with within(deploy.limit_s, "the deploy"):
                state, reason = await deploy.carry_out()
        except ArtifactLost:
            self._log.say("--- the earlier result has been deleted meanwhile: the commit is built again")
            await recorder.update(cache_key.not_reused)
            await self.carry_out()
        else:
            await self.end(state, reason)

    async def _passes(self) -> bool:
        """Runs the build until its artifact is made, or reuses the artifact of an earlier build. Returns True if the
        build passed; returns False if it has ended otherwise."""
        context, recorder, workspace = self._context, self._recorder, self._workspace()
        leftovers = await context.executor.end_leftovers(workspace)
        if recorder.build.state is BuildState.RUNNING:
            self._log.say(f"--- begun again from the start; {leftovers} leftovers of the earlier run were ended")
        await recorder.update(lambda build: domain.started(build, recorder.now()))
        if recorder.build.attempt > ATTEMPTS:
            await self.end(BuildState.ERROR, f"the service ended {ATTEMPTS} times while this build ran")
            return False
        await recorder.update(lambda build: domain.with_changes(build, stage=Stage.BUILD))
        app = await recorder.patiently(lambda: context.store.app(workspace.app))
        await recorder.update(lambda build: domain.with_changes(build, root=app.root))
        async with within(context.limits.checkout_s, "reading the commit"):
            try:
                tracked, loaded = await read_commit(context, app, recorder.build, self._secrets, self._log)
            except (BadTree, BadManifest) as error:
                return await self._judged([_refused(error)], None)
        self._loaded, manifest, inferred = loaded, loaded.manifest, list(loaded.inferred)
        key = await self._cache.key(app, manifest)
        await recorder.update(
            lambda build: domain.with_changes(build, manifest=manifest, inferred=inferred, judgement=key)
        )
        if not recorder.build.fresh and (earlier := await self._cache.find()) is not None:
            await self._reuse(earlier)
            return True
        return await self._builds(app, manifest, tracked)

    async def _builds(self, app: App, manifest: Manifest, tracked: Sequence[TrackedFile]) -> bool:
        context, recorder, workspace = self._context, self._recorder, self._workspace()
        async with within(context.limits.checkout_s, "the checkout"):
            folder = workspace.folder
            await uncancelled(self._git.in_thread(self._git.checkout, workspace.app, recorder.build.tree, folder))
        if any(file.mode == SUBMODULE for file in tracked):
            self._log.say("submodules are not supported; their folders stay empty")
        report_recorder = ReportRecorder(self._secrets.mask)
        pipeline = Pipeline(context, recorder, self._log, self._secrets, report_recorder)
        try:
            verdict = await pipeline.judge(workspace, app, manifest, tracked)
        finally:  # also for a build that is stopped
            if report_recorder.begun:
                await asyncio.to_thread(lambda: context.reports.write(workspace.build, report_recorder.report()))
        await recorder.update(lambda build: domain.with_changes(build, flaky=verdict.flaky))
        return await self._judged(verdict.gates, verdict.untested, verdict.baseline)

    async def _reuse(self, earlier: Build) -> None:
        """Records the artifact and verdict of `earlier` as this build's, and removes what an interrupted attempt of
        this build has left."""
        await self._context.executor.discard(self._workspace())
        await self._git.in_thread(remove, self._workspace().folder)
        which = earlier.reused or earlier.id
        same = "passed with the same commit, manifest and gates; nothing is built again"
        self._log.say(f"--- reused: {which} {same}: {self._context.build_url(which)}")
        loaded = await self._with_port(earlier.artifact)
        await self._recorder.update(
            lambda build: cache_key.reused(_completed(build, loaded), earlier, self._recorder.now())
        )

    async def _judged(self, gates: list[GateResult], untested: bool | None, baseline: Baseline | None = None) -> bool:
        """Records the gates' results. If all gates passed, makes the artifact and returns True; else ends the build and
        returns False. Also returns False if the artifact cannot be made."""
        self._log.say("--- gates")
        for line in (line for gate in gates for line in log_lines(gate)):
            self._log.say(line)
        if untested:
            self._log.say("    untested: no test reported anything")
        await self._recorder.update(lambda build: domain.with_changes(build, gates=gates, untested=untested))
        if reason := refusal(gates):
            await self._cache.forget()
            await self.end(BuildState.FAILURE, reason)
            return False
        return await self._seal(baseline)

    async def _seal(self, baseline: Baseline | None) -> bool:
        workspace, begin_byte = self._workspace(), self._log.size
        try:
            async with within(self._context.limits.seal_s, "making the artifact"):
                artifact = await self._artifact(workspace)
        except Unsealed as error:
            excerpt = domain.excerpt(self._log.tail(begin_byte))
            await self._recorder.update(lambda build: domain.with_changes(build, excerpt=excerpt))
            await self.end(BuildState.FAILURE, f"passed its gates, but {error}")
            return False
        sealed_at, loaded = self._recorder.now(), await self._with_port(artifact)
        await self._context.executor.discard(workspace)
        if baseline is not None:
            await self._cache.remember(baseline)
        await self._recorder.update(lambda build: domain.sealed(_completed(build, loaded), artifact, sealed_at))
        return True

    async def _with_port(self, artifact: Artifact | None) -> LoadedManifest | None:
        """Returns the manifest with the port that the artifact exposes, and writes to the log if that changes the
        port."""
        if self._loaded is None or artifact is None:
            return self._loaded
        loaded = with_port(self._loaded, await self._context.executor.exposed_ports(artifact))
        for each in loaded.inferred[len(self._loaded.inferred) :]:
            self._log.say(f"    {each}")
        return loaded

    async def _artifact(self, workspace: Workspace) -> Artifact:
        """Makes the artifact and returns it. Raises Unsealed if the commit cannot become one, and Stopped once a stop
        of the build is requested."""
        context, manifest = self._context, self._recorder.build.manifest
        command = manifest.run.command if manifest else None
        volumes = [volume.path for volume in manifest.volumes] if manifest else []
        source = workspace.scratch.with_name(f"{workspace.scratch.name}.sealed")
        at = await self._git.in_thread(self._git.committed_at, workspace.app, workspace.commit)
        python = context.executor.builds_images or await self._uses_python(command or "")
        stages = self._loaded.stages if self._loaded is not None else ()
        request = SealRequest(source, command, at, context.git_url(workspace.app), volumes, python, stages)
        try:
            if context.executor.builds_images:
                self._log.say(f"--- image: of commit {workspace.commit}")
                tree = self._recorder.build.tree
                await uncancelled(self._git.in_thread(self._git.checkout, workspace.app, tree, source))
            return await context.executor.seal(workspace, request, self._log.output, self._recorder.stop)
        finally:
            await self._git.in_thread(remove, source)

    async def _uses_python(self, command: str) -> bool:
        """Returns False if neither the run command nor any file of the commit names Python or pip."""
        build = self._recorder.build
        if any(word in command for word in PYTHON):
            return True
        return await self._git.in_thread(self._git.mentions, build.app, build.tree, *PYTHON)

    async def stopped(self) -> None:
        """Ends the build in the requested state if a stop was requested; else does nothing. The caller has to end the
        build's processes first."""
        await self._recorder.load()
        build = self._recorder.build
        if build.stop is None or build.ended:
            return
        late = await DeployStage(self._context, self._recorder, self._log).cancel(build.stop.reason)
        await self.end(*(late or (build.stop.state, build.stop.reason)))

    async def over_time(self, error: OverTime) -> None:
        """Ends the build after a time-out: as `failure` if the whole build took too long, as `error` if one phase
        did."""
        recorder, state = self._recorder, BuildState.FAILURE if error.phase == WHOLE else BuildState.ERROR
        await recorder.load()
        steps = ", ".join(step.name for step in recorder.build.steps if step.state == "running")
        if state is BuildState.FAILURE:
            excerpt = domain.excerpt(self._log.tail(0))
            await recorder.update(lambda build: domain.with_changes(build, excerpt=excerpt))
        waiting = f"; see release {recorder.build.release}" if recorder.build.release else ""
        await self.end(state, f"{error}{f', in the step {steps}' if steps else ''}{waiting}")

    async def end(self, state: BuildState, reason: str) -> None:
        """Ends the build in `state`. It writes to the log first and stores the state afterwards, because readers who
        follow the log stop reading once the build has ended."""
        build = self._recorder.build
        if state is BuildState.SUCCESS and build.flaky:
            reason += f"; passed with flaky tests: {', '.join(each.test for each in build.flaky)}"
        if not build.passed:
            if state is BuildState.FAILURE and (why := full_disk(build, self._log, self._context.reserve)):
                state, reason = BuildState.ERROR, f"{why}: {reason}"
            workspace = self._workspace()
            await self._context.executor.discard(workspace)
            await self._git.in_thread(remove, workspace.folder)
        self._log.say(f"{build.id} {state}: {reason}")
        await self._recorder.end(state, reason)

    def _workspace(self) -> Workspace:
        build = self._recorder.build
        folder = self._context.releases / build.app
        return Workspace(
            build=build.id,
            app=build.app,
            commit=build.commit,
            branch=build.branch,
            number=build.number,
            folder=folder / build.id,
            scratch=folder / f".{build.id}",
        )


def _completed(build: Build, loaded: LoadedManifest | None) -> Build:
    """Returns the build with the manifest of `loaded`, which may now have more entries, such as the artifact's port."""
    if loaded is None:
        return build
    return domain.with_changes(build, manifest=loaded.manifest, inferred=list(loaded.inferred))


def _refused(error: BadTree | BadManifest) -> GateResult:
    if isinstance(error, BadTree):
        return GateResult(name="commit", passed=False, reason=f"it {error}")
    first, *more = error.faults
    offenders = [Offender(file=NAME, line=fault.line, message=f"{fault.field}: {fault.detail}") for fault in more]
    return GateResult(name="manifest", passed=False, reason=str(first), offenders=offenders)
