"""Which builds of an app have passed, by the key under which they were judged (reuse.py)."""

from typing import Any, Protocol

from redis.asyncio import Redis

from services.build.cache.cache_key import KEPT, Passed


class PassedStore(Protocol):
    """Every method raises `RedisError` when the store is out of reach; then nothing has been changed, or all. Every
    call may be repeated. It tells where to look; whether a build has passed, its own record says."""

    async def passed(self, app: str, key: str) -> Passed | None: ...

    async def put(self, app: str, key: str, passed: Passed) -> None:
        """The newest 100 of an app are kept."""
        ...

    async def drop(self, app: str, key: str) -> None: ...

    async def forget(self, app: str) -> None:
        """Everything of the app."""
        ...


class RedisPassedStore:
    """`build:passed:<app>` (hash by key), `build:passed-turn:<app>` (sorted set: key by its turn)."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def passed(self, app: str, key: str) -> Passed | None:
        text: Any = await self._redis.hget(f"build:passed:{app}", key)
        return Passed.model_validate_json(text) if text else None

    async def put(self, app: str, key: str, passed: Passed) -> None:
        turns: Any = await self._redis.zrange(f"build:passed-turn:{app}", 0, -1, withscores=True)
        last = turns[-1][1] if turns else 0
        old = [each for each, _ in turns if each != key][: -KEPT + 1]
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.hset(f"build:passed:{app}", key, passed.model_dump_json())
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
        await self._redis.delete(f"build:passed:{app}", f"build:passed-turn:{app}")


class MemoryPassedStore:
    """For tests."""

    def __init__(self) -> None:
        self._passed: dict[str, dict[str, Passed]] = {}

    async def passed(self, app: str, key: str) -> Passed | None:
        return self._passed.get(app, {}).get(key)

    async def put(self, app: str, key: str, passed: Passed) -> None:
        others = {each: value for each, value in self._passed.get(app, {}).items() if each != key}
        self._passed[app] = dict(list({**others, key: passed}.items())[-KEPT:])

    async def drop(self, app: str, key: str) -> None:
        self._passed.get(app, {}).pop(key, None)

    async def forget(self, app: str) -> None:
        self._passed.pop(app, None)
