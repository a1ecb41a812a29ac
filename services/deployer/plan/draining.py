"""Plans how instances leave the route, and finds the release that tells which of their requests were cut off. Pure."""

from collections.abc import Iterable, Iterator
from datetime import datetime

from services.deployer.plan.action import Change
from services.deployer.plan.observe import World
from services.deployer.plan.stop_first import take_out
from services.deployer.releases.instance import Instance
from services.deployer.releases.release import Release
from shared.clock import lasts
from shared.manifest import DRAIN_S
from shared.models import InstanceState

S = InstanceState


def draining(world: World, now: datetime) -> int:
    """Returns the number of instances that began to drain within the last 30 s. What others still answer are long
    requests, which may last for 30 minutes (`run.drain`), and no reason to delay what follows.
    """
    leaving = (instance for instance in world.instances.values() if instance.state is S.DRAINING)
    return sum(lasts(instance.changed_at, DRAIN_S, now) for instance in leaving)


def drain(leaving: list[Instance], room: int, reason: str) -> Iterator[Change]:
    """Yields the changes that take instances out of the route: starting ones at once, of all others at most `room`, so
    that enough instances stay ready.
    """
    in_route = [instance for instance in leaving if instance.state is not S.STARTING]
    for instance in leaving:
        if instance.state is S.STARTING or instance in in_route[: max(0, room)]:
            yield take_out(instance, reason)


def replaced_by(release: Release, others: Iterable[Release]) -> str | None:
    """Returns the id of the release that took the place of `release`, or is about to; None if there is none."""
    newer = (each for each in others if each.previous == release.id and (each.switched_at or each.drain_old_at))
    return next((each.id for each in newer), None)
