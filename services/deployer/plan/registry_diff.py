"""What the registry should say of an environment's instances. Pure."""

from collections.abc import Sequence

from services.deployer.plan.observe import World
from services.deployer.releases.instance import ENDED, registry_record
from shared.models import InstanceRecord, InstanceState
from shared.proxy_models import RouteState


def to_put(world: World, entries: Sequence[InstanceRecord]) -> list[InstanceRecord]:
    """Entries that differ from what is stored. A starting instance has none yet; one that has ended gets none any
    more, but the one it has must say so: the proxy takes nothing out without an explicit state.
    """
    published = {entry.id: entry for entry in entries}
    wanted = [
        registry_record(instance)
        for instance in world.instances.values()
        if instance.state is not InstanceState.STARTING and (instance.state not in ENDED or instance.id in published)
    ]
    return [record for record in wanted if published.get(record.id) != record]


def to_delete(world: World, entries: Sequence[InstanceRecord]) -> list[str]:
    """Entries of instances that are gone, and that the proxy has taken out of the route."""
    return [
        entry.id
        for entry in entries
        if (instance := world.instances.get(entry.id)) is not None
        and instance.ended_at is not None
        and world.route(entry.id) is RouteState.ABSENT
    ]
