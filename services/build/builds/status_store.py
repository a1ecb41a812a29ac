"""Stores the commit statuses still to be sent to forges, in Redis, in one transaction with the change of the build."""

from typing import Any

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline

from services.build.builds.build import Build
from services.build.builds.status import PendingStatuses, statuses_of

STATUSES = "build:statuses"
# Unless the build has changed meanwhile.
_DONE = "if redis.call('HGET', KEYS[1], ARGV[1]) == ARGV[2] then return redis.call('HDEL', KEYS[1], ARGV[1]) end"


def mark(pipe: Pipeline, before: Build | None, after: Build) -> None:
    """Queues the statuses on the pipeline if the change alters them. A newer state replaces the older one."""
    statuses = statuses_of(after)
    if before is None or statuses_of(before) != statuses:
        pipe.hset(STATUSES, after.id, statuses.model_dump_json())


class StatusStore:
    """Stores pending commit statuses as `build:statuses`, a hash by build.

    Every method raises `RedisError` when Redis is out of reach; nothing is changed then.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._done: Any = redis.register_script(_DONE)

    async def pending(self) -> dict[str, PendingStatuses]:
        """Returns build → its pending statuses: all of them, not the difference."""
        kept: dict[Any, Any] = await self._redis.hgetall(STATUSES)
        return {build: PendingStatuses.model_validate_json(text) for build, text in kept.items()}

    async def done(self, build: str, sent: PendingStatuses) -> None:
        """Removes the build's entry, unless it has changed from `sent`. Idempotent."""
        await self._done([STATUSES], [build, sent.model_dump_json()])
