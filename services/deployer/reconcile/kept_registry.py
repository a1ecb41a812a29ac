"""Keeps the content of the registry in memory, as long as the deployer has not changed it."""

from functools import cached_property

from services.deployer.kept import Kept
from shared.models import InstanceRecord, Track
from shared.registry import Registry


class KeptRegistry(Registry):
    """Reads the registry for the deployer, which alone writes instances. It keeps the list of all instances, which the
    monitor requests twice a second. The list is read from Redis again after this object has written an instance, and
    after 5 s.
    """

    @cached_property
    def _all(self) -> Kept[dict[str, dict[Track, list[InstanceRecord]]]]:
        return Kept(super().all_instances)

    async def put_instance(self, app: str, track: Track, record: InstanceRecord) -> None:
        await super().put_instance(app, track, record)
        self._all.drop()

    async def delete_instance(self, app: str, track: Track, instance_id: str) -> None:
        await super().delete_instance(app, track, instance_id)
        self._all.drop()

    async def all_instances(self) -> dict[str, dict[Track, list[InstanceRecord]]]:
        return await self._all.get()
