"""Compares an environment's instances with their entries in the registry. Pure."""

from collections.abc import Sequence

from services.deployer.plan.observe import World
from services.deployer.releases.instance import ENDED, registry_record
from shared.models import InstanceRecord, InstanceState
from shared.proxy_models import RouteState


def to_put(world: World, entries: Sequence[InstanceRecord]) -> list[InstanceRecord]:
    """Returns the registry entries to write: those of instances that are new or have changed. An instance that is still
    starting gets none. An ended one keeps its entry, with its new state, because the proxy stops routing to an instance
    only if an entry says so.
    """
    published = {entry.id: entry for entry in entries}
    wanted = [
        registry_record(instance, world.releases[instance.release].manifest.run.drain)
        for instance in world.instances.values()
        if instance.state is not InstanceState.STARTING and (instance.state not in ENDED or instance.id in published)
    ]
    return [record for record in wanted if published.get(record.id) != record]


def to_delete(world: World, entries: Sequence[InstanceRecord]) -> list[str]:
    """Returns the ids of the registry entries to delete: those of ended instances to which the proxy no longer
    routes.
    """
    return [
        entry.id
        for entry in entries
        if (instance := world.instances.get(entry.id)) is not None
        and instance.ended_at is not None
        and world.route(entry.id) is RouteState.ABSENT
    ]
