"""Answers from memory what the registry holds, while the deployer has not changed it."""

from functools import cached_property

from services.deployer.kept import Kept
from shared.models import InstanceRecord, Track
from shared.registry import Registry


class KeptRegistry(Registry):
    """The registry for the deployer, the only service that writes instances: all of them, which the monitor asks for
    twice a second, are read again only after this object has written one, or after 5 s.
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
