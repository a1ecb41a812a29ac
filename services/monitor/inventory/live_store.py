"""Stores which release is live in the production of each app, so that it is known after a restart of the monitor."""

from collections.abc import Mapping
from typing import Any

from redis.asyncio import Redis

LIVE = "monitor:live"


class LiveStore:
    """Stores the live releases in the hash `monitor:live`, app → release. Every method raises `redis.RedisError` if
    Redis does not answer; writes are atomic and idempotent.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def load(self) -> dict[str, str]:
        found: dict[Any, Any] = await self._redis.hgetall(LIVE)
        return found

    async def holds(self, app: str) -> bool:
        return bool(await self._redis.hexists(LIVE, app))

    async def save(self, releases: Mapping[str, str | None]) -> None:
        """Stores the live release of each of these apps; None deletes it."""
        async with self._redis.pipeline(transaction=True) as pipe:
            for app, release in releases.items():
                if release is None:
                    pipe.hdel(LIVE, app)
                else:
                    pipe.hset(LIVE, app, release)
            await pipe.execute()
