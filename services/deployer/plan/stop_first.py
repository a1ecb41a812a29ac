"""Plans stop-first releases, for apps with volumes. Two instances must never write to one volume, so the old one stops
before the new one starts, and the app is down in between. Pure. The order is: check all that can be checked while the
old instance serves; store that it may go (`DrainOld`); drain the old instance, and stop it once the proxy no longer
routes to it; start the new one. If the new one fails, the live release is started again.
"""

from collections.abc import Iterator

from services.deployer.plan.action import Change, DrainOld, MoveInstance, RecordDowntime
from services.deployer.plan.observe import World
from services.deployer.releases.instance import RUNNING, Instance
from services.deployer.releases.release import ENDED, Release
from shared.models import InstanceState, ReleaseState
from shared.proxy_models import RouteState

S = InstanceState
BEGUN = "its instances are being started"


def is_stop_first(release: Release, live: Release | None) -> bool:
    """Returns True if the old instances must stop before those of `release` start: because `release`, which is about to
    start, or the live release has volumes.
    """
    return bool(release.manifest.volumes) or (live is not None and bool(live.manifest.volumes))


def blockers(world: World, release: Release) -> list[Instance]:
    """Returns the instances that must have ended before an instance of the release may be started: if the release has
    volumes, those with volumes; if it is a starting stop-first release, all of other releases. A failed instance is
    among them until all its processes have ended.
    """

    def clashes(instance: Instance) -> bool:
        other = world.releases[instance.release]
        awaits = release.state is ReleaseState.STARTING and release.strategy == "stop-first"
        return bool(release.manifest.volumes and other.manifest.volumes) or (awaits and other.id != release.id)

    return [each for each in world.instances.values() if each.ended_at is None and clashes(each)]


def may_drain_old(world: World, starting: Release) -> bool:
    """Returns True if the driver has found that it can start the release, and the proxy has accepted the route (or has
    not been asked, because no instance is registered).
    """
    return world.checked.get(starting.id) == "" and (world.routes is not None or not world.published)


def drain_old(world: World, starting: Release) -> Iterator[Change]:
    """Yields `DrainOld` once all checks have passed. After that is stored, yields the changes that drain the instances
    of other releases.
    """
    if starting.drain_old_at is None:
        if may_drain_old(world, starting):
            yield DrainOld(starting.id)
        return
    for instance in world.instances.values():
        if instance.release != starting.id and instance.state in RUNNING:
            yield take_out(instance, f"makes room for {starting.id}")


def take_out(instance: Instance, reason: str) -> MoveInstance:
    """Returns the change that takes an instance out of the route: it drains, or is stopped at once if it is still
    starting.
    """
    return MoveInstance(instance.id, S.STOPPED if instance.state is S.STARTING else S.DRAINING, reason)


def record_downtime(world: World) -> Iterator[Change]:
    """Yields the change that records the end of a release's downtime, once an instance of the release gets visitors. If
    the release has ended, any instance of the environment counts.
    """
    serving = [i for i in world.instances.values() if i.state is S.READY and world.route(i.id) is RouteState.ROUTABLE]
    for release in world.releases.values():
        if release.is_down and any(i.release == release.id or release.state in ENDED for i in serving):
            yield RecordDowntime(release.id)


def awaited_condition(world: World, starting: Release) -> str:
    """Returns what a stop-first release waits for once the old instances may drain, in words for people; empty before
    that.
    """
    if starting.drain_old_at is None:
        return ""
    leaving = [i.id for i in blockers(world, starting) if i.release != starting.id or i.state not in RUNNING]
    return f"waits for the end of {', '.join(leaving)}" if leaving else BEGUN
