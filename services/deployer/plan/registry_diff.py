"""Compares an environment's instances with their entries in the registry. Pure."""

from collections.abc import Sequence

from services.deployer.plan.observe import World
from services.deployer.releases.instance import ENDED, registry_record
from shared.models import InstanceRecord, InstanceState
from shared.proxy_models import RouteState


def to_put(world: World, entries: Sequence[InstanceRecord]) -> list[InstanceRecord]:
    """Returns the registry entries to write: new or changed ones, without starting instances. An ended instance keeps
    its entry with the new state, since the proxy removes an endpoint only for an explicit state.
    """
    published = {entry.id: entry for entry in entries}
    wanted = [
        registry_record(instance)
        for instance in world.instances.values()
        if instance.state is not InstanceState.STARTING and (instance.state not in ENDED or instance.id in published)
    ]
    return [record for record in wanted if published.get(record.id) != record]


def to_delete(world: World, entries: Sequence[InstanceRecord]) -> list[str]:
    """Returns the ids of the entries to delete: of instances that have ended and that the proxy does not route to."""
    return [
        entry.id
        for entry in entries
        if (instance := world.instances.get(entry.id)) is not None
        and instance.ended_at is not None
        and world.route(entry.id) is RouteState.ABSENT
    ]
