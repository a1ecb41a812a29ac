"""Derives the background work of an environment from the facts about it. Each item of work is idempotent. Pure."""

from collections.abc import Iterator

from services.deployer.plan import action
from services.deployer.plan.action import Work
from services.deployer.plan.lifecycle import is_outdated
from services.deployer.plan.observe import World
from services.deployer.releases.environment import desired
from services.deployer.releases.instance import ENDED, RUNNING, Instance
from services.deployer.releases.release import ENDED as RELEASE_ENDED
from services.deployer.releases.release import Release
from shared.models import Environment, InstanceState, ReleaseState
from shared.proxy_models import RouteState

S = InstanceState


def plan_work(world: World) -> Iterator[Work]:
    """Yields the items of work that should run in the background now."""
    for instance in world.instances.values():
        if instance.state is S.STARTING and instance.id not in world.statuses:
            yield action.StartInstance(instance.id)
        drained = instance.state is S.DRAINING and world.route(instance.id) is RouteState.ABSENT
        gone = instance.state in ENDED and instance.ended_at is None
        if (drained or gone) and instance.id not in world.stopped:
            yield action.StopInstance(instance.id)
        if (memory := _new_memory(world, instance)) is not None:
            yield action.SetMemory(instance.id, memory)
    if world.published and not _is_confirmed(world):
        yield action.SyncProxy()
    starting, live = world.only(ReleaseState.STARTING), world.only(ReleaseState.LIVE)
    if starting is not None and _needs_check(world, starting):
        yield action.Check(starting.id)
    if starting is not None and _is_routable(world, starting) and not _has_rollout(starting):
        yield action.OpenRollout(starting.id)
    for release in world.releases.values():
        if release.abort_rollout:
            yield action.AbortRollout(release.id)
    if live is not None and _needs_rollback(world, live):
        yield action.AutoRollback(live.id)
    if live is not None and live.rebuild is not None and world.override.lifecycle.runs and not _waiting(world):
        yield action.FollowRebuild(live.id)


def is_at_rest(world: World) -> bool:
    """Returns True if the environment needs no further change unless something happens: no release is pending or
    starting, each instance is ready and up to date or has ended completely, and the live release has enough instances.
    """
    if _waiting(world) or not all(_is_as_wanted(world, instance) for instance in world.instances.values()):
        return False
    live = world.only(ReleaseState.LIVE) if world.override.lifecycle.runs else None
    ready = 0 if live is None else sum(instance.state is S.READY for instance in world.of(live))
    return live is None or ready >= desired(world.override, live.manifest.resources).replicas


def _is_as_wanted(world: World, instance: Instance) -> bool:
    if instance.state in ENDED:
        return instance.ended_at is not None
    has_facts = instance.facts_digest in ("", world.facts_digest)
    is_ordered = instance.configuration == world.override.configuration and not is_outdated(world, instance)
    return world.override.lifecycle.runs and instance.state is S.READY and has_facts and is_ordered


def _new_memory(world: World, instance: Instance) -> int | None:
    """Returns the new memory limit in bytes of a running instance; None if it has the wanted limit, or if the driver
    cannot change the limit or has just refused to.
    """
    release, status = world.releases[instance.release], world.statuses.get(instance.id)
    if instance.state not in RUNNING or release.state in RELEASE_ENDED or status is None or not status.running:
        return None
    wanted = desired(world.override, release.manifest.resources).memory
    is_hopeless = instance.id in world.fixed_memory or world.memory_refused.get(instance.id) == wanted
    return None if wanted == instance.memory or is_hopeless else wanted


def is_settled(world: World, starting: Release) -> bool:
    """Returns True if the old instances may leave: all new ones get visitors and, for a canary, the rollout is open."""
    return _is_routable(world, starting) and _has_rollout(starting)


def _needs_check(world: World, starting: Release) -> bool:
    """Returns True if the driver must check whether it can start the release, before old instances are stopped for it:
    the release is stop-first, was not checked yet, and has not begun to drain the old instances.
    """
    return starting.strategy == "stop-first" and starting.drain_old_at is None and starting.id not in world.checked


def _is_routable(world: World, release: Release) -> bool:
    """Returns True if all running instances of the release are ready and in the route, and there are as many as the
    environment's `replicas`.
    """
    running = [i for i in world.of(release) if i.state in (S.STARTING, S.READY, S.UNHEALTHY)]
    routable = [i for i in running if i.state is S.READY and world.route(i.id) is RouteState.ROUTABLE]
    return len(routable) == len(running) >= desired(world.override, release.manifest.resources).replicas


def _has_rollout(release: Release) -> bool:
    return release.environment is not Environment.CANARY or release.rollout_opened


def _is_confirmed(world: World) -> bool:
    """Returns True if the proxy's last answer fits the states of the instances: it routes to ready ones and not to
    draining ones.
    """
    expected = {S.READY: RouteState.ROUTABLE, S.DRAINING: RouteState.ABSENT}
    return world.routes is not None and all(
        world.route(i.id) is expected.get(i.state, world.route(i.id)) for i in world.instances.values()
    )


def _needs_rollback(world: World, live: Release) -> bool:
    """Returns True if the live release must be rolled back automatically: it is faulty, it is in production, it is not
    itself an automatic rollback, was not rolled back before, and no other release is pending or starting.
    """
    is_faulty = (
        live.failure is not None and live.environment is Environment.PRODUCTION and world.override.lifecycle.runs
    )
    return is_faulty and live.replaces_faulty is None and not live.automatic_rollback and not _waiting(world)


def _waiting(world: World) -> bool:
    return any(each.state in (ReleaseState.PENDING, ReleaseState.STARTING) for each in world.releases.values())
