"""Plans the rebuild of the live release's artifact, from which no instance can be started any more. Pure."""

from collections.abc import Iterator

from services.deployer.plan.action import BeginRebuild, Change, EndRebuild
from services.deployer.plan.observe import World
from shared.models import ReleaseState


def begin_rebuild(world: World) -> Iterator[Change]:
    live = world.only(ReleaseState.LIVE)
    if live is not None and live.rebuild is None and live.id in world.unusable:
        yield BeginRebuild(live.id, world.unusable[live.id])


def end_rebuild(world: World) -> Iterator[Change]:
    """Yields the end of a rebuild in a stopped environment: nothing is to be started. The next start finds out anew
    whether one is needed.
    """
    live = world.only(ReleaseState.LIVE)
    if live is not None and live.rebuild is not None:
        yield EndRebuild(live.id)
