"""Deploys a build that passed: requests a release and waits until it is live or has failed."""

from services.build.builds import build as domain
from services.build.builds.build_recorder import BuildRecorder
from services.build.logs.build_log import BuildLog
from services.build.pipeline.build_context import BuildContext
from services.build.pipeline.deployer_client import ReleaseRefused, Unreachable, downtime_text, went_live
from shared.models import BuildState

End = tuple[BuildState, str]  # with its reason


class ArtifactLost(Exception):
    """Reports that the artifact that the build reuses no longer exists."""


class DeployStage:
    """Deploys the build that `recorder` records."""

    def __init__(self, context: BuildContext, recorder: BuildRecorder, log: BuildLog) -> None:
        self._context = context
        self._recorder = recorder
        self._log = log

    async def carry_out(self) -> End:
        """Returns the build's final state and the reason. Idempotent across restarts. Raises Stopped, ArtifactLost."""
        recorder, deployer = self._recorder, self._context.deployer
        self._log.say(f"--- deploy: to {recorder.build.environment}")
        try:
            if recorder.build.release is None:
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
            return BuildState.ERROR, f"the deployer did not answer: {error}"
        if not went_live(release):
            if release.failure is not None and release.failure.log:
                self._log.say("\n".join([f"    the last lines of {release.failure.instance}:", *release.failure.log]))
            return BuildState.FAILURE, f"release {release.id} {release.state}: {release.reason}"
        urls = self._context.urls(recorder.build.app, release.environment)
        await recorder.update(lambda build: domain.with_changes(build, urls=urls))
        how = "was live already, unchanged" if release.unchanged else "is live"
        where = f"{release.id} {how} in {release.environment}: {' and '.join(urls)}"
        manifest = recorder.build.manifest
        names = [volume.name for volume in manifest.volumes] if manifest else []
        return BuildState.SUCCESS, f"{where}{downtime_text(release, names)}"

    async def _has_lost_its_artifact(self) -> bool:
        """Returns True if the build reuses an artifact that retention has deleted since it was looked up."""
        reused, artifact = self._recorder.build.reused, self._recorder.build.artifact
        return reused is not None and artifact is not None and not await self._context.executor.has(artifact)

    def _waiting(self, reason: str) -> None:
        self._log.say(f"    waiting for the deployer: {reason}")
