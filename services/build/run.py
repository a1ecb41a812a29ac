"""One run of one build, read from top to bottom: checkout, manifest, pipeline, seal, deploy."""

import asyncio
import contextlib
import logging
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from services.build import build as domain
from services.build.analysis import Analysis
from services.build.app import App
from services.build.build_log import BuildLog, BuildLogs
from services.build.convention import DOCKERFILE, READ, manifest_of, run_command
from services.build.deploy import Handover, Refused, Unreachable, loss, went_live
from services.build.executor import Delivery, Executor, Stop, Stopped, Unsealed, Workspace
from services.build.figure import Offender
from services.build.gate import Fault, GateResult, loosened, loosened_flaky, number, refusal
from services.build.history_store import HistoryStore
from services.build.ledger import Ledger
from services.build.manifest_file import NAME, BadManifest, parse_manifest, with_lines
from services.build.pipeline import Pipeline, Verdict
from services.build.repository import SUBMODULE, Repositories, TrackedFile
from services.build.secret import Secrets, opened
from services.build.secret_store import SecretStore
from services.build.step_plan import service_faults
from services.build.store import BuildStore
from shared.manifest import Manifest, Stage
from shared.models import Artifact, BuildState, Environment
from shared.vault import Vault

log = logging.getLogger(__name__)

ATTEMPTS = 5
OFFENDERS_LOGGED = 5


@dataclass(frozen=True)
class Tools:
    """What every run works with. `releases` is the folder of checkouts; `urls` says where an app is found, `git_url`
    where its repository is; `vault` opens `secrets`."""

    store: BuildStore
    history: HistoryStore
    secrets: SecretStore
    vault: Vault
    repositories: Repositories
    executor: Executor
    analysis: Analysis
    logs: BuildLogs
    handover: Handover
    releases: Path
    urls: Callable[[str, Environment], list[str]]
    git_url: Callable[[str], str]
    now: Callable[[], datetime]
    steps_at_a_time: int = 2


async def run_build(tools: Tools, build_id: str, stop: Stop) -> None:
    """Runs the build to its end, from wherever an earlier run left it. When `stop` is set it ends early: in the state
    that was asked for, or, if the service itself is ending, without an end, to be taken up again."""
    ledger = Ledger(tools.store, build_id, stop, tools.now)
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
        except Exception as error:
            log.exception("build %s", build_id)
            await run.end(BuildState.ERROR, f"an error of the platform: {type(error).__name__}: {error}")


class _Run:
    def __init__(self, tools: Tools, ledger: Ledger, build_log: BuildLog, secrets: Secrets) -> None:
        self._tools = tools
        self._secrets = secrets
        self._ledger = ledger
        self._log = build_log

    async def carry_out(self) -> None:
        if self._ledger.build.passed:
            self._log.say("--- the service was restarted; the deploy is continued")
        elif not await self._passes():
            return
        if self._ledger.build.environment is None:
            await self.end(BuildState.SUCCESS, "passed; not deployed, for no environment belongs to it")
        else:
            await self._deploy()

    async def _passes(self) -> bool:
        """Builds and judges the commit, and seals what passed."""
        tools, ledger, workspace = self._tools, self._ledger, self._workspace()
        leftovers = await tools.executor.end_leftovers(workspace)
        if ledger.build.state is BuildState.RUNNING:
            self._log.say(f"--- taken up again from the beginning; {leftovers} leftovers of the earlier run were ended")
        await ledger.update(lambda build: domain.started(build, ledger.now()))
        if ledger.build.attempt > ATTEMPTS:
            await self.end(BuildState.ERROR, f"the service ended {ATTEMPTS} times while this build ran")
            return False
        await ledger.update(lambda build: domain.with_changes(build, stage=Stage.BUILD))
        await asyncio.to_thread(tools.repositories.checkout, workspace.app, workspace.commit, workspace.folder)
        tracked = await asyncio.to_thread(tools.repositories.tracked, workspace.app, workspace.commit)
        if any(file.mode == SUBMODULE for file in tracked):
            self._log.say("submodules are not supported; their folders stay empty")
        app = await ledger.patiently(lambda: tools.store.app(workspace.app))
        pipeline = Pipeline(
            tools.executor,
            tools.analysis,
            tools.repositories,
            tools.history,
            ledger,
            self._log,
            self._secrets,
            tools.steps_at_a_time,
        )
        try:
            manifest = await self._read_manifest(app, tracked)
        except BadManifest as error:
            first, *more = error.faults
            offenders = [
                Offender(file=NAME, line=fault.line, message=f"{fault.field}: {fault.detail}") for fault in more
            ]
            gate = GateResult(name="manifest", passed=False, reason=str(first), offenders=offenders)
            await self._judged([gate], None)
            return False
        await ledger.update(lambda build: domain.with_changes(build, manifest=manifest))
        verdict = await pipeline.judge(workspace, app, manifest, tracked)
        await ledger.update(lambda build: domain.with_changes(build, flaky=verdict.flaky))
        if not await self._judged(verdict.gates, verdict.untested):
            return False
        await self._remember(verdict)
        return True

    async def _remember(self, verdict: Verdict) -> None:
        """Only a build that passed is what later ones are compared with."""
        build, baseline = self._ledger.build, verdict.baseline
        branch = build.branch
        if branch is not None and baseline is not None:
            await self._ledger.patiently(lambda: self._tools.history.put_baseline(build.app, branch, baseline))

    async def _read_manifest(self, app: App, tracked: Sequence[TrackedFile]) -> Manifest:
        """Raises BadManifest."""
        at_root = [file for file in tracked if file.path in (*READ, NAME) and file.mode.startswith("100")]
        read = self._tools.repositories.read
        files = {file.path: await asyncio.to_thread(read, app.name, file) for file in at_root}
        images = self._tools.executor.builds_images
        if NAME not in files:
            self._log.say(f"no {NAME}: the steps follow from {', '.join(files) or 'nothing'}")
            return manifest_of(app.name, files, images=images)
        manifest = await asyncio.to_thread(parse_manifest, files[NAME], app.name)
        faults = loosened(app.gates, manifest.gates) + loosened_flaky(app.flaky, manifest.flaky)
        if faults := faults + self._secrets.faults(manifest) + service_faults(manifest.steps, containers=images):
            raise with_lines(files[NAME], faults)
        if manifest.run.command is None:
            command = run_command(files, images=images)
            if command is None and not (images and DOCKERFILE in files):
                raise BadManifest([Fault("run.command", "is missing; say how the app is run, listening on $PORT")])
            manifest.run.command = command
        return manifest

    async def _judged(self, gates: list[GateResult], untested: bool | None) -> bool:
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
            await self.end(BuildState.FAILURE, reason)
            return False
        return await self._seal()

    async def _seal(self) -> bool:
        workspace, begin_byte = self._workspace(), self._log.size
        try:
            artifact = await self._artifact(workspace)
        except Unsealed as error:
            excerpt = domain.excerpt(self._log.tail(begin_byte))
            await self._ledger.update(lambda build: domain.with_changes(build, excerpt=excerpt))
            await self.end(BuildState.FAILURE, f"passed its gates, but {error}")
            return False
        sealed_at = self._ledger.now()
        await self._tools.executor.discard(workspace)
        await self._ledger.update(lambda build: domain.sealed(build, artifact, sealed_at))
        return True

    async def _artifact(self, workspace: Workspace) -> Artifact:
        """Raises Unsealed, Stopped."""
        tools, manifest = self._tools, self._ledger.build.manifest
        command = manifest.run.command if manifest else None
        volumes = [volume.path for volume in manifest.volumes] if manifest else []
        source = workspace.scratch.with_name(f"{workspace.scratch.name}.sealed")
        at = await asyncio.to_thread(tools.repositories.committed_at, workspace.app, workspace.commit)
        delivery = Delivery(source, command, at, tools.git_url(workspace.app), volumes)
        try:
            if tools.executor.builds_images:
                self._log.say(f"--- image: of commit {workspace.commit}")
                await asyncio.to_thread(tools.repositories.checkout, workspace.app, workspace.commit, source)
            return await tools.executor.seal(workspace, delivery, self._log.output, self._ledger.stop)
        finally:
            await asyncio.to_thread(_remove, source)

    async def _deploy(self) -> None:
        ledger, handover = self._ledger, self._tools.handover
        self._log.say(f"--- deploy: to {ledger.build.environment}")
        try:
            if ledger.build.release is None:
                release = await handover.request(ledger.build, self._waiting, ledger.stop)
                await ledger.update(lambda build: domain.with_changes(build, release=release.id))
            else:
                release = await handover.look(ledger.build.release, self._waiting, ledger.stop)
            release = await handover.follow(release, self._waiting, ledger.stop)
        except Refused as error:
            await self.end(BuildState.FAILURE, f"the deployer refused it: {error}")
        except Unreachable as error:
            await self.end(BuildState.ERROR, f"the deployer did not answer: {error}")
        else:
            if not went_live(release):
                if release.failure is not None and release.failure.log:
                    self._log.say(
                        "\n".join([f"    the last lines of {release.failure.instance}:", *release.failure.log])
                    )
                await self.end(BuildState.FAILURE, f"release {release.id} {release.state}: {release.reason}")
                return
            urls = self._tools.urls(ledger.build.app, release.environment)
            await ledger.update(lambda build: domain.with_changes(build, urls=urls))
            how = "was live already, unchanged" if release.unchanged else "is live"
            where = f"{release.id} {how} in {release.environment}: {' and '.join(urls)}"
            manifest = ledger.build.manifest
            names = [volume.name for volume in manifest.volumes] if manifest else []
            await self.end(BuildState.SUCCESS, f"{where}{loss(release, names)}")

    async def stopped(self) -> None:
        """All processes have ended."""
        await self._ledger.load()
        stop = self._ledger.build.stop
        if stop is not None and not self._ledger.build.ended:
            await self.end(stop.state, stop.reason)

    async def end(self, state: BuildState, reason: str) -> None:
        """The line goes to the log first: whoever follows it leaves when the state is an end."""
        build = self._ledger.build
        if state is BuildState.SUCCESS and build.flaky:
            reason += f"; passed with flaky tests: {', '.join(each.test for each in build.flaky)}"
        if not build.passed:
            workspace = self._workspace()
            await self._tools.executor.discard(workspace)
            await asyncio.to_thread(_remove, workspace.folder)
        self._log.say(f"{build.id} {state}: {reason}")
        await self._ledger.end(state, reason)

    def _waiting(self, reason: str) -> None:
        self._log.say(f"    waiting for the deployer: {reason}")

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


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
