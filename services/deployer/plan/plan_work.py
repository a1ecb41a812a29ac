"""The work that the facts ask for; all of it may be begun again at any time. Pure."""

from collections.abc import Iterator

from services.deployer.plan.action import (
    AbortRollout,
    Check,
    OpenRollout,
    SetMemory,
    StartInstance,
    StopInstance,
    SyncProxy,
    TakeBack,
    Work,
)
from services.deployer.plan.observe import World
from services.deployer.releases.environment import desired
from services.deployer.releases.instance import ENDED, RUNNING, Instance
from services.deployer.releases.release import ENDED as RELEASE_ENDED
from services.deployer.releases.release import Release
from shared.models import Environment, InstanceState, ReleaseState
from shared.proxy_models import RouteState

S = InstanceState


def work(world: World) -> Iterator[Work]:
    """What is to be running in the background now."""
    for instance in world.instances.values():
        if instance.state is S.STARTING and instance.id not in world.statuses:
            yield StartInstance(instance.id)
        drained = instance.state is S.DRAINING and world.route(instance.id) is RouteState.ABSENT
        gone = instance.state in ENDED and instance.ended_at is None
        if (drained or gone) and instance.id not in world.stopped:
            yield StopInstance(instance.id)
        if (memory := _other_memory(world, instance)) is not None:
            yield SetMemory(instance.id, memory)
    if world.published and not _is_confirmed(world):
        yield SyncProxy()
    starting, live = world.only(ReleaseState.STARTING), world.only(ReleaseState.LIVE)
    if starting is not None and _is_to_be_checked(world, starting):
        yield Check(starting.id)
    if starting is not None and _is_routable(world, starting) and not _has_rollout(starting):
        yield OpenRollout(starting.id)
    for release in world.releases.values():
        if release.abort_rollout:
            yield AbortRollout(release.id)
    if live is not None and _is_to_be_taken_back(world, live):
        yield TakeBack(live.id)


def _other_memory(world: World, instance: Instance) -> int | None:
    """What the limit of a running instance is to be changed to, bytes."""
    release, status = world.releases[instance.release], world.statuses.get(instance.id)
    if instance.state not in RUNNING or release.state in RELEASE_ENDED or status is None or not status.running:
        return None
    wanted = desired(world.override, release.manifest.resources).memory
    is_hopeless = instance.id in world.fixed_memory or world.memory_refused.get(instance.id) == wanted
    return None if wanted == instance.memory or is_hopeless else wanted


def is_settled(world: World, starting: Release) -> bool:
    """Whether the old instances may go: every new one gets visitors, and a canary's rollout is open."""
    return _is_routable(world, starting) and _has_rollout(starting)


def _is_to_be_checked(world: World, starting: Release) -> bool:
    """While the old ones still serve."""
    return starting.strategy == "stop-first" and starting.room_at is None and starting.id not in world.checked


def _is_routable(world: World, release: Release) -> bool:
    """As many as are wanted, all of them."""
    running = [i for i in world.of(release) if i.state in (S.STARTING, S.READY, S.UNHEALTHY)]
    routable = [i for i in running if i.state is S.READY and world.route(i.id) is RouteState.ROUTABLE]
    return len(routable) == len(running) >= desired(world.override, release.manifest.resources).replicas


def _has_rollout(release: Release) -> bool:
    return release.environment is not Environment.CANARY or release.rollout_opened


def _is_confirmed(world: World) -> bool:
    """Whether the proxy has made of the registry's entries what they say."""
    expected = {S.READY: RouteState.ROUTABLE, S.DRAINING: RouteState.ABSENT}
    return world.routes is not None and all(
        world.route(i.id) is expected.get(i.state, world.route(i.id)) for i in world.instances.values()
    )


def _is_to_be_taken_back(world: World, live: Release) -> bool:
    """By itself only once, and never a release that came by itself."""
    is_faulty = live.failure is not None and live.environment is Environment.PRODUCTION
    others = [r for r in world.releases.values() if r.state in (ReleaseState.PENDING, ReleaseState.STARTING)]
    return is_faulty and live.takes_back is None and not live.taken_back and not others
