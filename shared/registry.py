"""Implements service discovery: the addresses of services, and the instances of each app."""

from redis.asyncio import Redis

from shared.models import InstanceRecord, ServiceRecord, Track

SERVICE_TTL_S = 15
HEARTBEAT_S = 5


class Registry:
    """Stores the registry in the keys `registry:service:<name>:<id>` (JSON, expires after 15 s) and
    `registry:instance:<app>:<track>` (a hash of JSON by instance id, without expiry).

    Services announce themselves every 5 s; only the deployer writes and deletes instances. Methods raise RedisError
    when Redis does not answer: callers should then keep what they read last.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def announce(self, record: ServiceRecord) -> None:
        await self._redis.set(_service_key(record), record.model_dump_json(), ex=SERVICE_TTL_S)

    async def withdraw(self, record: ServiceRecord) -> None:
        await self._redis.delete(_service_key(record))

    async def services(self) -> list[ServiceRecord]:
        keys = [key async for key in self._redis.scan_iter("registry:service:*", count=500)]
        values = await self._redis.mget(keys) if keys else []
        records = [ServiceRecord.model_validate_json(value) for value in values if value]
        return sorted(records, key=lambda record: (record.name, record.started_at))

    async def put_instance(self, app: str, track: Track, record: InstanceRecord) -> None:
        await self._redis.hset(_instance_key(app, track), record.id, record.model_dump_json())

    async def delete_instance(self, app: str, track: Track, instance_id: str) -> None:
        await self._redis.hdel(_instance_key(app, track), instance_id)

    async def instances(self, app: str, track: Track) -> list[InstanceRecord]:
        """Returns the track's instances, sorted by id."""
        values = await self._redis.hvals(_instance_key(app, track))
        return sorted((InstanceRecord.model_validate_json(value) for value in values), key=lambda item: item.id)

    async def tracks(self) -> list[tuple[str, Track]]:
        """Returns every (app, track) that has an instance, sorted."""
        keys = [key async for key in self._redis.scan_iter("registry:instance:*", count=500)]
        pairs = (key.split(":")[2:4] for key in keys)
        return sorted((app, Track(track)) for app, track in pairs)


def _service_key(record: ServiceRecord) -> str:
    return f"registry:service:{record.name}:{record.id}"


def _instance_key(app: str, track: Track) -> str:
    return f"registry:instance:{app}:{track}"
