"""Plans stop-first releases, for apps with volumes. Two instances must never write to one volume, so the old one stops
before the new one starts; in between the app does not serve. Pure.

While the old one serves, everything that can be checked is checked → `MakeRoom` is stored → old ones out of the route,
proxy confirms, SIGTERM, their end is seen → the new one starts. If it fails, the live release is started again.
"""

from collections.abc import Iterator

from services.deployer.plan.action import Change, MakeRoom, MoveInstance, RecordDowntime
from services.deployer.plan.observe import World
from services.deployer.releases.instance import RUNNING, Instance
from services.deployer.releases.release import ENDED, Release
from shared.models import InstanceState, ReleaseState
from shared.proxy_models import RouteState

S = InstanceState
BEGUN = "its instances are being started"


def is_stop_first(release: Release, live: Release | None) -> bool:
    """Returns True if `release`, which is about to start, or the live one has volumes."""
    return bool(release.manifest.volumes) or (live is not None and bool(live.manifest.volumes))


def blockers(world: World, release: Release) -> list[Instance]:
    """Returns the instances whose end must be seen before another instance of the release is started. A failed one
    counts until it is certain that nothing of it runs.
    """

    def clashes(instance: Instance) -> bool:
        other = world.releases[instance.release]
        awaits = release.state is ReleaseState.STARTING and release.strategy == "stop-first"
        return bool(release.manifest.volumes and other.manifest.volumes) or (awaits and other.id != release.id)

    return [each for each in world.instances.values() if each.ended_at is None and clashes(each)]


def is_ready_for_room(world: World, starting: Release) -> bool:
    """Returns True if all checks that are possible while the old instances serve have passed: the engine could start
    the release, and the proxy accepts its route.
    """
    return world.checked.get(starting.id) == "" and (world.routes is not None or not world.published)


def make_room(world: World, starting: Release) -> Iterator[Change]:
    """Marks the start of the outage once all checks have passed, and then takes the old instances out."""
    if starting.room_at is None:
        if is_ready_for_room(world, starting):
            yield MakeRoom(starting.id)
        return
    for instance in world.instances.values():
        if instance.release != starting.id and instance.state in RUNNING:
            yield take_out(instance, f"makes room for {starting.id}")


def take_out(instance: Instance, reason: str) -> MoveInstance:
    """Returns the change that takes an instance out: to draining, or at once to stopped for a starting one, which was
    never in the route.
    """
    return MoveInstance(instance.id, S.STOPPED if instance.state is S.STARTING else S.DRAINING, reason)


def record_downtime(world: World) -> Iterator[Change]:
    """Records the end of an outage: an instance of the release serves or, when the release has ended, any other."""
    serving = [i for i in world.instances.values() if i.state is S.READY and world.route(i.id) is RouteState.ROUTABLE]
    for release in world.releases.values():
        if release.is_down and any(i.release == release.id or release.state in ENDED for i in serving):
            yield RecordDowntime(release.id)


def awaited_condition(world: World, starting: Release) -> str:
    """Returns the condition that a release after `MakeRoom` waits for, in words for a person; empty for any other."""
    if starting.room_at is None:
        return ""
    leaving = [i.id for i in blockers(world, starting) if i.release != starting.id or i.state not in RUNNING]
    return f"waits for the end of {', '.join(leaving)}" if leaving else BEGUN
