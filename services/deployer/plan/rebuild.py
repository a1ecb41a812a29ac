"""Plans the rebuild of a live release's artifact, if no instance can be started from the artifact any more. Pure."""

from collections.abc import Iterator

from services.deployer.plan.action import BeginRebuild, Change, EndRebuild
from services.deployer.plan.observe import World
from shared.errors import Conflict
from shared.models import BuildView, ReleaseState


def begin_rebuild(world: World) -> Iterator[Change]:
    live = world.only(ReleaseState.LIVE)
    if live is not None and live.rebuild is None and live.id in world.unusable:
        yield BeginRebuild(live.id, world.unusable[live.id])


def end_rebuild(world: World) -> Iterator[Change]:
    """Yields the change that ends the live release's rebuild, if there is one. Call it for a stopped environment, where
    nothing is to be started; the environment's next start finds out whether a rebuild is needed.
    """
    live = world.only(ReleaseState.LIVE)
    if live is not None and live.rebuild is not None:
        yield EndRebuild(live.id)


def check_rebuild(stored: World, build: BuildView) -> None:
    """Raises Conflict if `build` is a rebuild that its release no longer needs: the release is not live any more,
    another release is pending or starting, or the environment is stopped. Does nothing if `build` is no rebuild.
    """
    if build.rebuilds is None:
        return
    live = stored.only(ReleaseState.LIVE)
    if live is None or live.id != build.rebuilds or live.rebuild is None:
        raise Conflict(f"{build.rebuilds}, whose artifact {build.id} was to replace, needs it no more")
    waiting = stored.only(ReleaseState.STARTING) or stored.only(ReleaseState.PENDING)
    if waiting is not None:
        raise Conflict(f"{waiting.id} is to take the place of {live.id}, whose artifact {build.id} was to replace")
    if not stored.override.lifecycle.runs:
        raise Conflict(f"{live.environment_id} is stopped; its start has the artifact built again if it is needed")
