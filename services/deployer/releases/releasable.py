"""Checks whether a build may be released. Pure."""

from services.deployer.releases.environment import EnvironmentId
from shared.errors import Conflict
from shared.manifest import Manifest
from shared.models import Artifact, BuildView


def releasable(build: BuildView, environment_id: EnvironmentId) -> tuple[Artifact, Manifest]:
    """Returns the build's artifact and manifest. Raises Conflict if the build may not be released, for example because
    it has not passed its gates.
    """
    if build.app != environment_id.app:
        raise Conflict(f"build {build.id} is of app {build.app}, not of {environment_id.app}")
    if not build.passed:
        raise Conflict(
            f"build {build.id} has not passed its gates (it is {build.state}); only one that has is released"
        )
    if build.artifact is None or build.manifest is None:
        raise Conflict(f"build {build.id} has no artifact and manifest; build its commit again")
    if not build.manifest.run.command and build.artifact.kind == "directory":
        raise Conflict(f"build {build.id} does not say how to run the app; set run.command in slipway.yml")
    return build.artifact, build.manifest
