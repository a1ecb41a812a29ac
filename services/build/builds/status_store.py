"""Stores the commit statuses still to be sent to forges, in one transaction with the change of the build."""

from typing import Any, Protocol

from redis.asyncio import Redis

from services.build.builds.build import Build
from services.build.builds.status import Wanted, wanted

STATUSES = "build:statuses"
# Unless the build has changed meanwhile.
_DONE = "if redis.call('HGET', KEYS[1], ARGV[1]) == ARGV[2] then return redis.call('HDEL', KEYS[1], ARGV[1]) end"


class StatusTarget(Protocol):
    """Represents a Redis pipeline: the intent is stored in the same transaction as its cause."""

    def hset(self, name: Any, key: Any, value: Any) -> Any: ...


class StatusStore(Protocol):
    """Stores pending commit statuses. Every method raises `RedisError` when the store is out of reach; nothing is
    changed then."""

    async def wanted(self) -> dict[str, Wanted]:
        """Returns build → its pending statuses: all of them, not the difference."""
        ...

    async def done(self, build: str, told: Wanted) -> None:
        """Removes the build's entry, unless it has changed from `told`. Idempotent."""
        ...


def mark(target: StatusTarget, before: Build | None, after: Build) -> None:
    """Queues the statuses on the pipeline if the change alters them. A newer state replaces the older one."""
    if (text := news(before, after)) is not None:
        target.hset(STATUSES, after.id, text)


def news(before: Build | None, after: Build) -> str | None:
    """Returns the statuses as JSON; None if they are the same as before."""
    told = wanted(after)
    return None if before is not None and wanted(before) == told else told.model_dump_json()


class RedisStatusStore:
    """Stores `build:statuses`, a hash by build."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._done: Any = redis.register_script(_DONE)

    async def wanted(self) -> dict[str, Wanted]:
        kept: dict[Any, Any] = await self._redis.hgetall(STATUSES)
        return {build: Wanted.model_validate_json(text) for build, text in kept.items()}

    async def done(self, build: str, told: Wanted) -> None:
        await self._done([STATUSES], [build, told.model_dump_json()])


class MemoryStatusStore:
    """Stores statuses in memory, for tests. `texts` is the dictionary that a MemoryBuildStore fills."""

    def __init__(self, texts: dict[str, str]) -> None:
        self._texts = texts

    async def wanted(self) -> dict[str, Wanted]:
        return {build: Wanted.model_validate_json(text) for build, text in self._texts.items()}

    async def done(self, build: str, told: Wanted) -> None:
        if self._texts.get(build) == told.model_dump_json():
            del self._texts[build]
