"""Deploys a build that passed: requests a release and waits until it is live or has failed; can also cancel it."""

import asyncio
import contextlib

from services.build.builds import build as domain
from services.build.builds.build_recorder import BuildRecorder
from services.build.logs.build_log import BuildLog
from services.build.logs.wait_lines import WaitLines
from services.build.pipeline.build_context import BuildContext
from services.build.pipeline.deployer_client import ReleaseRefused, Unfinished, Unreachable, downtime_text, went_live
from services.build.system.stop import Stop, Stopped
from shared.models import BuildState, ReleaseView

End = tuple[BuildState, str]  # final state and its reason
LOOK_AGAIN_S = 0.5


class ArtifactLost(Exception):
    """Reports that the build reuses an artifact that no longer exists. The build then has to be built again."""


class DeployStage:
    """Deploys one build, which has passed its gates: the one that `recorder` holds and changes."""

    def __init__(self, context: BuildContext, recorder: BuildRecorder, log: BuildLog) -> None:
        self._context = context
        self._recorder = recorder
        self._log = log
        self._lines = WaitLines(log.say)

    @property
    def limit_s(self) -> float:
        """Returns the limit in seconds for the whole deployment, with the longest wait for the release's instances."""
        limits, manifest = self._context.limits, self._recorder.build.manifest
        return limits.deploy_s + (limits.ready_factor * manifest.run.ready_within if manifest else 0)

    async def carry_out(self) -> End:
        """Deploys the build; returns its final state and the reason. A repeated call, also after a restart of the
        service, goes on with the release that the first call requested. Raises Stopped once a stop of the build is
        requested, and ArtifactLost if the artifact that it reuses is gone.
        """
        recorder, deployer = self._recorder, self._context.deployer
        self._log.say(f"--- deploy: to {recorder.build.environment}")
        try:
            if recorder.build.release is None:
                await self._let_older_first()
                release = await deployer.request(recorder.build, self._waiting, recorder.stop)
                await recorder.update(lambda build: domain.with_changes(build, release=release.id))
            else:
                release = await deployer.look(recorder.build.release, self._waiting, recorder.stop)
            release = await deployer.follow(release, self._waiting, recorder.stop)
        except ReleaseRefused as error:
            if await self._has_lost_its_artifact():
                raise ArtifactLost from error
            return BuildState.FAILURE, f"the deployer refused it: {error}"
        except Unreachable as error:
            again = f"once its `GET /ready` answers 200, build it again (POST /builds/{recorder.build.id}/retry)"
            return BuildState.ERROR, f"the deployer did not answer: {error}; {again}"
        except Unfinished as error:
            return (
                BuildState.ERROR,
                f"{error}; it goes on by itself once all services are ready (`GET /ready`)",
            )
        return await self._end_of(release)

    async def cancel(self, reason: str) -> End | None:
        """Ends the build's release if it does not serve visitors yet. Returns None if no release is under way any more,
        so that the caller can end the build. If the release serves visitors already, withdraws the request to stop the
        build, waits until the release is live or has failed, and returns the build's final state and the reason. If the
        deployer refuses or does not answer, returns the state `error` and the reason.
        """
        recorder, deployer, stop = self._recorder, self._context.deployer, Stop()
        if not recorder.build.deploying or recorder.build.environment is None:
            return None
        try:
            release = await deployer.cancel(recorder.build, reason, self._waiting, stop)
            if release is None or release.ended_at is not None:
                return None
            self._log.say(f"    it is too late to cancel: {release.id} serves visitors already")
            await recorder.withdraw_stop()
            release = await deployer.follow(release, self._waiting, stop)
        except (ReleaseRefused, Unreachable, Unfinished) as error:
            return BuildState.ERROR, f"it could not be cancelled: {error}; see its release at the deployer"
        return await self._end_of(release)

    async def _let_older_first(self) -> None:
        """Waits until every older build of the same branch that is also being deployed has requested its release. The
        deployer treats the release that was requested last as the newest, so this build's request has to come after
        theirs.
        """
        build, stop = self._recorder.build, self._recorder.stop
        while True:
            unended = await self._recorder.patiently(self._context.store.unended)
            older = [
                each.id
                for each in unended
                if each.group == build.group and each.number < build.number and each.deploying and each.release is None
            ]
            if not older or build.branch is None:
                return
            await self._waiting(f"waits until {', '.join(older)}, which is older, has requested its release", "")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), LOOK_AGAIN_S)
                raise Stopped

    async def _end_of(self, release: ReleaseView) -> End:
        recorder = self._recorder
        if not went_live(release):
            if release.failure is not None and release.failure.log:
                title = f"    the first and last lines of {release.failure.instance}:"
                self._log.say("\n".join([title, *release.failure.log]))
            if release.superseded_by is not None:
                return BuildState.SUPERSEDED, f"{release.reason} (it was release {release.id})"
            if release.platform_fault:
                again = f"once `GET /ready` of all services answers 200, POST /builds/{recorder.build.id}/retry"
                return BuildState.ERROR, f"release {release.id} failed: {release.reason}; {again}"
            return BuildState.FAILURE, f"release {release.id} {release.state}: {release.reason}"
        urls = self._context.urls(recorder.build.app, release.environment)
        await recorder.update(lambda build: domain.with_changes(build, urls=urls))
        how = "was live already, unchanged" if release.unchanged else "is live"
        where = f"{release.id} {how} in {release.environment}: {' and '.join(urls)}"
        manifest = recorder.build.manifest
        names = [volume.name for volume in manifest.volumes] if manifest else []
        return BuildState.SUCCESS, f"{where}{downtime_text(release, names)}"

    async def _has_lost_its_artifact(self) -> bool:
        """Returns True if the build reuses an artifact that retention has deleted in the meantime."""
        reused, artifact = self._recorder.build.reused, self._recorder.build.artifact
        return reused is not None and artifact is not None and not await self._context.executor.has(artifact)

    async def _waiting(self, reason: str, progress: str) -> None:
        if self._lines(reason, progress):
            with contextlib.suppress(Stopped):  # the task that waits for `stop` raises it
                await self._recorder.update(lambda build: domain.with_changes(build, reason=reason))
