"""Keeps the registry's list of instances in memory, as long as the deployer has not changed it, for at most 5 s."""

from collections.abc import Set
from functools import cached_property

from services.deployer.kept import KeptParts
from shared.models import InstanceRecord, Track
from shared.registry import Registry


class KeptRegistry(Registry):
    """Reads the registry for the deployer, which alone writes instances there. It keeps the list of all instances in
    memory, because the monitor requests that list twice a second. After this object has written an instance, the
    instances of its app are read from Redis again, and those of all apps after 5 s.
    """

    @cached_property
    def _all(self) -> KeptParts[str, dict[Track, list[InstanceRecord]]]:
        return KeptParts(super().all_instances, self._instances_of_apps)

    async def put_instance(self, app: str, track: Track, record: InstanceRecord) -> None:
        await super().put_instance(app, track, record)
        self._all.drop(app)

    async def delete_instance(self, app: str, track: Track, instance_id: str) -> None:
        await super().delete_instance(app, track, instance_id)
        self._all.drop(app)

    async def all_instances(self) -> dict[str, dict[Track, list[InstanceRecord]]]:
        return dict(await self._all.get())

    async def _instances_of_apps(self, apps: Set[str]) -> dict[str, dict[Track, list[InstanceRecord]]]:
        found = {app: await self.instances_of(app) for app in apps}
        tracks = {app: {track: records for track, records in of.items() if records} for app, of in found.items()}
        return {app: of for app, of in tracks.items() if of}
