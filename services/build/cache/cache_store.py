"""Stores in Redis which builds passed, by cache key: a digest of everything that decides a build's verdict."""

from typing import Any

from redis.asyncio import Redis

from services.build.cache.cache_key import KEPT, CacheEntry


class CacheStore:
    """Stores which builds passed, by cache key: `build:passed:<app>` (hash) and `build:passed-turn:<app>` (sorted set
    of the keys, in the order of storing). An entry does not prove that its build passed; the build's own record says
    so. Every method raises `RedisError` if Redis is unreachable; each write is atomic and idempotent.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def get(self, app: str, key: str) -> CacheEntry | None:
        text: Any = await self._redis.hget(f"build:passed:{app}", key)
        return CacheEntry.model_validate_json(text) if text else None

    async def put(self, app: str, key: str, entry: CacheEntry) -> None:
        """Stores the entry for the cache key, as the newest. Only the newest 100 entries of an app are kept."""
        turns: Any = await self._redis.zrange(f"build:passed-turn:{app}", 0, -1, withscores=True)
        last = turns[-1][1] if turns else 0
        old = [each for each, _ in turns if each != key][: -KEPT + 1]
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.hset(f"build:passed:{app}", key, entry.model_dump_json())
            pipe.zadd(f"build:passed-turn:{app}", {key: last + 1})
            if old:
                pipe.hdel(f"build:passed:{app}", *old)
                pipe.zrem(f"build:passed-turn:{app}", *old)
            await pipe.execute()

    async def drop(self, app: str, key: str) -> None:
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.hdel(f"build:passed:{app}", key)
            pipe.zrem(f"build:passed-turn:{app}", key)
            await pipe.execute()

    async def forget(self, app: str) -> None:
        """Removes all cache entries of the app."""
        await self._redis.delete(f"build:passed:{app}", f"build:passed-turn:{app}")
