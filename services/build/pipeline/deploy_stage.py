"""Deploys a build that passed: the last stage, from the request of a release until it is live or has failed."""

from collections.abc import Callable

from services.build.builds import build as domain
from services.build.builds.build_recorder import BuildRecorder
from services.build.executors.executor import Executor
from services.build.logs.build_log import BuildLog
from services.build.pipeline.deployer_client import DeployerClient, ReleaseRefused, Unreachable, loss, went_live
from shared.models import BuildState, Environment

End = tuple[BuildState, str]  # with its reason


class ArtifactLost(Exception):
    """Reports that an artifact that was to be reused no longer exists."""


class DeployStage:
    """Carries out the deploy stage. `urls` returns the URLs of an app in an environment."""

    def __init__(
        self,
        handover: DeployerClient,
        executor: Executor,
        ledger: BuildRecorder,
        log: BuildLog,
        urls: Callable[[str, Environment], list[str]],
    ) -> None:
        self._handover = handover
        self._executor = executor
        self._ledger = ledger
        self._log = log
        self._urls = urls

    async def carry_out(self) -> End:
        """Returns the final state and its reason. Idempotent, also for another process. Raises Stopped and
        ArtifactLost."""
        ledger, handover = self._ledger, self._handover
        self._log.say(f"--- deploy: to {ledger.build.environment}")
        try:
            if ledger.build.release is None:
                release = await handover.request(ledger.build, self._waiting, ledger.stop)
                await ledger.update(lambda build: domain.with_changes(build, release=release.id))
            else:
                release = await handover.look(ledger.build.release, self._waiting, ledger.stop)
            release = await handover.follow(release, self._waiting, ledger.stop)
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
        urls = self._urls(ledger.build.app, release.environment)
        await ledger.update(lambda build: domain.with_changes(build, urls=urls))
        how = "was live already, unchanged" if release.unchanged else "is live"
        where = f"{release.id} {how} in {release.environment}: {' and '.join(urls)}"
        manifest = ledger.build.manifest
        names = [volume.name for volume in manifest.volumes] if manifest else []
        return BuildState.SUCCESS, f"{where}{loss(release, names)}"

    async def _has_lost_its_artifact(self) -> bool:
        """Returns True if the reused artifact is gone: retention may have removed it since this service checked it."""
        reused, artifact = self._ledger.build.reused, self._ledger.build.artifact
        return reused is not None and artifact is not None and not await self._executor.has(artifact)

    def _waiting(self, reason: str) -> None:
        self._log.say(f"    waiting for the deployer: {reason}")
