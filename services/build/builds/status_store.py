"""Stores in Redis which commit statuses are still to be sent to forges."""

from typing import Any

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline

from services.build.builds.build import Build
from services.build.builds.status import PendingStatuses, statuses_of

STATUSES = "build:statuses"
# Deletes the entry unless the build's statuses have changed in the meantime.
_DONE = "if redis.call('HGET', KEYS[1], ARGV[1]) == ARGV[2] then return redis.call('HDEL', KEYS[1], ARGV[1]) end"


def mark(pipe: Pipeline, before: Build | None, after: Build) -> None:
    """Adds a command to the transaction `pipe` that queues the build's commit statuses for sending, if the change from
    `before` (None for a new build) to `after` altered any of them. The queued statuses replace those that were queued
    for the build earlier.
    """
    statuses = statuses_of(after)
    if before is None or statuses_of(before) != statuses:
        pipe.hset(STATUSES, after.id, statuses.model_dump_json())


class StatusStore:
    """Stores the commit statuses to be sent in the hash `build:statuses`, by build. Every method raises `RedisError` if
    Redis is unreachable, and has then changed nothing.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._done: Any = redis.register_script(_DONE)

    async def pending(self) -> dict[str, PendingStatuses]:
        """Returns the builds with a commit status that their forge may not have yet: build id → the statuses of all its
        stages, also those that the forge already has."""
        kept: dict[Any, Any] = await self._redis.hgetall(STATUSES)
        return {build: PendingStatuses.model_validate_json(text) for build, text in kept.items()}

    async def done(self, build: str, sent: PendingStatuses) -> None:
        """Removes the build's statuses from the queue if they are still those in `sent`. Idempotent."""
        await self._done([STATUSES], [build, sent.model_dump_json()])
