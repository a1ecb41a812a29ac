"""Plans the end of an environment's instances after people have stopped or removed it. Pure."""

from collections.abc import Iterator

from services.deployer.plan.action import Change, DropInstance, MoveRelease, RecordStopped
from services.deployer.plan.observe import World
from services.deployer.plan.stop_first import take_out
from services.deployer.releases.environment import EnvironmentState
from services.deployer.releases.instance import RUNNING, Instance
from services.deployer.releases.release import ENDED
from shared.models import ReleaseState


def is_outdated(world: World, instance: Instance) -> bool:
    """Returns True if people have restarted the environment after the instance was created, so that the instance must
    be replaced.
    """
    restarted_at = world.override.lifecycle.restarted_at
    return restarted_at is not None and instance.created_at < restarted_at


def end_releases(world: World) -> Iterator[Change]:
    """Yields the changes that end each pending or starting release of an environment that people have stopped, and also
    its live release if the environment is being removed. A starting release whose instances already get visitors first
    becomes the live one, because its predecessor could return only by a rollback.
    """
    lifecycle = world.override.lifecycle
    starting, live = world.only(ReleaseState.STARTING), world.only(ReleaseState.LIVE)
    why = lifecycle.reason
    if starting is not None and starting.switched_at is not None:
        yield MoveRelease(starting.id, ReleaseState.LIVE, "its instances were in the route")
        if live is not None:
            yield MoveRelease(live.id, ReleaseState.RETIRED, f"replaced by {starting.id}")
        return
    for release in world.releases.values():
        is_live = release.state is ReleaseState.LIVE
        if release.state not in ENDED and (not is_live or lifecycle.state is EnvironmentState.REMOVING):
            yield MoveRelease(release.id, ReleaseState.RETIRED, why, abort_rollout=release.rollout_opened)


def end_instances(world: World) -> Iterator[Change]:
    for instance in world.instances.values():
        if instance.state in RUNNING:
            yield take_out(instance, world.override.lifecycle.reason)


def record_stopped(world: World) -> Iterator[Change]:
    """Yields the change that records, once, that a stopped environment has no instances left, neither running nor in
    the registry.
    """
    lifecycle, live = world.override.lifecycle, world.only(ReleaseState.LIVE)
    is_empty = not world.published and all(each.ended_at is not None for each in world.instances.values())
    is_new = lifecycle.state is EnvironmentState.STOPPED and not lifecycle.has_ended
    if is_new and is_empty and live is not None:
        yield RecordStopped(live.id)


def drop_instances(world: World) -> Iterator[Change]:
    """Yields the changes that delete the record and log of each ended instance, if the environment is being removed."""
    if world.override.lifecycle.state is EnvironmentState.REMOVING:
        for instance in world.instances.values():
            if instance.ended_at is not None and instance.id not in world.published:
                yield DropInstance(instance.id)


def is_gone(world: World) -> bool:
    """Returns True if the environment has no instances left, and no release that has not ended or whose rollout must
    still be aborted.
    """
    has_work = any(release.state not in ENDED or release.abort_rollout for release in world.releases.values())
    return not world.instances and not has_work
