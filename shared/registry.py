"""Implements service discovery: the addresses of services, and the instances of each app."""

import time
from datetime import datetime
from typing import Any

from pydantic import Field
from redis.asyncio import Redis

from shared.models import InstanceRecord, ServiceRecord, Track, View

SERVICES, TRACKS, CHANGES = "registry:services", "registry:tracks", "registry:changes"
CHANGES_KEPT = 1_000
SERVICE_TTL_S = 15
FORGOTTEN_S = 86_400  # far more than the clocks of several machines differ
HEARTBEAT_S = 5


class ProbeRecord(View):
    """Describes the last health probes of an instance. Each field is the time at which a probe began; null if there was
    none. A probe does not count if its outcome may be the machine's fault, not the instance's.
    """

    answered_at: datetime | None = Field(None, description="The last probe that succeeded.")
    well_since: datetime | None = Field(None, description="The first of the successes since the last failure.")
    failing_since: datetime | None = Field(
        None, description="The first of the failures since the last success; null if the last probe succeeded."
    )


class RegistryView(View):
    services: list[ServiceRecord]
    instances: dict[str, dict[Track, list[InstanceRecord]]] = Field(description="app → track → instances")
    probes: dict[str, ProbeRecord] = Field(
        {}, description="Instance id → its last probes, for the instances of apps that have a canary."
    )


class Registry:
    """Stores in Redis where services and apps' instances can be reached. A service is the key
    `registry:service:<name>:<id>` (JSON, which expires after 15 s); the instances of a track (`stable` for production,
    or `canary`) are the hash `registry:instance:<app>:<track>` (JSON by id). `registry:services` and `registry:tracks`
    name these keys, so that readers need not scan Redis. The stream `registry:changes` names the app of each write, so
    that readers read only apps that have changed. Services announce themselves every 5 s; only the deployer writes
    instances. Methods raise RedisError if Redis does not answer; callers should then keep what they last read.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def announce(self, record: ServiceRecord) -> None:
        key, now = _service_key(record), time.time()
        async with self._redis.pipeline() as pipe:
            pipe.set(key, record.model_dump_json(), ex=SERVICE_TTL_S)
            pipe.zadd(SERVICES, {key: now})
            pipe.zremrangebyscore(SERVICES, "-inf", now - FORGOTTEN_S)
            await pipe.execute()

    async def ping(self) -> None:
        """Raises RedisError if Redis does not answer, or cannot write to its disk."""
        await self._redis.ping()

    async def withdraw(self, record: ServiceRecord) -> None:
        await self._redis.delete(_service_key(record))

    async def services(self) -> list[ServiceRecord]:
        keys: list[Any] = await self._redis.zrange(SERVICES, 0, -1)
        values = await self._redis.mget(keys) if keys else []
        records = [ServiceRecord.model_validate_json(value) for value in values if value]
        return sorted(records, key=lambda record: (record.name, record.started_at))

    async def put_instance(self, app: str, track: Track, record: InstanceRecord) -> None:
        async with self._redis.pipeline() as pipe:
            pipe.hset(_instance_key(app, track), record.id, record.model_dump_json())
            pipe.sadd(TRACKS, f"{app}:{track}")
            _append_change(pipe, app)
            await pipe.execute()

    async def delete_instance(self, app: str, track: Track, instance_id: str) -> None:
        async with self._redis.pipeline() as pipe:
            pipe.hdel(_instance_key(app, track), instance_id)
            _append_change(pipe, app)
            await pipe.execute()

    async def remove_track(self, app: str, track: Track) -> None:
        """Removes the app's track (production or canary) from the registry. The caller has to delete the track's
        instances first.
        """
        async with self._redis.pipeline() as pipe:
            pipe.delete(_instance_key(app, track))
            pipe.srem(TRACKS, f"{app}:{track}")
            _append_change(pipe, app)
            await pipe.execute()

    async def changed_apps(self, since: str) -> tuple[frozenset[str] | None, str]:
        """Returns the apps whose instances were written or deleted after the position `since`, and the position for the
        next call. Instead of the apps, returns None if they cannot be known and every app has to be read: at the first
        call (`since` is empty), after Redis lost data, or after more than 1000 changes. An earlier version of the
        deployer did not record changes, so callers should also read every app from time to time.
        """
        entries: Any = await self._redis.xrange(CHANGES, min=since) if since else []
        if entries and entries[0][0] == since:
            return frozenset(fields["app"] for _, fields in entries[1:]), entries[-1][0]
        return None, await _append_change(self._redis, "")

    async def instances(self, app: str, track: Track) -> list[InstanceRecord]:
        """Returns the registered instances of one track (production or canary) of the app, sorted by id."""
        return _records(await self._redis.hvals(_instance_key(app, track)))

    async def instances_of(self, app: str) -> dict[Track, list[InstanceRecord]]:
        """Returns the app's registered instances by track (production, canary), sorted by id."""
        values = await self._values([(app, track) for track in Track])
        return {track: _records(found) for track, found in zip(Track, values, strict=True)}

    async def all_instances(self) -> dict[str, dict[Track, list[InstanceRecord]]]:
        """Returns app → track (production or canary) → registered instances, sorted by id. Apps and tracks without
        instances are left out.
        """
        if not await self._redis.exists(TRACKS):
            await self._name_tracks()
        names: set[Any] = await self._redis.smembers(TRACKS)
        pairs = [(app, Track(track)) for app, _, track in (name.partition(":") for name in sorted(names)) if app]
        every: dict[str, dict[Track, list[InstanceRecord]]] = {}
        for (app, track), values in zip(pairs, await self._values(pairs), strict=True):
            if values:
                every.setdefault(app, {})[track] = _records(values)
        return every

    async def _values(self, pairs: list[tuple[str, Track]]) -> list[list[Any]]:
        async with self._redis.pipeline(transaction=False) as pipe:
            for app, track in pairs:
                pipe.hvals(_instance_key(app, track))
            found: list[list[Any]] = await pipe.execute()
        return found

    async def _name_tracks(self) -> None:
        """Creates the key `registry:tracks` from the keys of instances, for data of an earlier version, which had no
        such key.
        """
        keys = [key async for key in self._redis.scan_iter("registry:instance:*", count=500)]
        await self._redis.sadd(TRACKS, "", *(key.removeprefix("registry:instance:") for key in keys))


def _append_change(target: Redis, app: str) -> Any:
    """Appends the app's name to `registry:changes`. Returns an awaitable of the entry's id; given a pipeline, only
    queues the command.
    """
    return target.xadd(CHANGES, {"app": app}, maxlen=CHANGES_KEPT, approximate=True)


def _records(values: list[Any]) -> list[InstanceRecord]:
    return sorted(map(InstanceRecord.model_validate_json, values), key=lambda record: record.id)


def _service_key(record: ServiceRecord) -> str:
    return f"registry:service:{record.name}:{record.id}"


def _instance_key(app: str, track: Track) -> str:
    return f"registry:instance:{app}:{track}"
