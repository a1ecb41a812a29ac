"""Stores when each environment was last seen, and deletes the stored data of one that no longer exists."""

from collections.abc import Iterable
from datetime import datetime

from redis.asyncio import Redis

from services.monitor.dispatch.outbox_store import CONTEXTS
from services.monitor.scaling.policy_store import POLICIES, SCALING, SEEN, decisions_key
from services.monitor.scaling.scaling_input import EnvironmentKey
from shared.models import Environment


class RetentionStore:
    """Stores when each environment was last seen, in the sorted set `monitor:environments` (`<app>:<environment>` by
    time). Every method raises `redis.RedisError` if Redis is unreachable; writes are atomic and idempotent.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def note_seen(self, seen: Iterable[EnvironmentKey], now: datetime) -> None:
        """Stores `now` as the time at which the environments in `seen` were last seen. An environment that has stored
        data but no such time yet also gets it, so that its data are deleted one day.
        """
        stored = {str(name) for key in (POLICIES, SCALING, CONTEXTS) for name in await self._redis.hkeys(key)}
        at = now.timestamp()
        async with self._redis.pipeline(transaction=True) as pipe:
            if stored:
                pipe.zadd(SEEN, dict.fromkeys(stored, at), nx=True)
            if fresh := dict.fromkeys(map(_field, seen), at):
                pipe.zadd(SEEN, fresh)
            await pipe.execute()

    async def unseen_since(self, before: datetime, *, limit: int) -> list[EnvironmentKey]:
        """Returns at most `limit` environments that were last seen before the time `before`, longest unseen first."""
        names = await self._redis.zrangebyscore(SEEN, "-inf", f"({before.timestamp()}", start=0, num=limit)
        pairs = (str(name).split(":") for name in names)
        return [EnvironmentKey(app, Environment(environment)) for app, environment in pairs]

    async def forget(self, key: EnvironmentKey) -> None:
        """Deletes the environment's scaling policy and decisions, its release context (addresses and commits for
        messages), and the time at which it was last seen.
        """
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.delete(decisions_key(key))
            for name in (POLICIES, SCALING, CONTEXTS):
                pipe.hdel(name, _field(key))
            pipe.zrem(SEEN, _field(key))
            await pipe.execute()


def _field(key: EnvironmentKey) -> str:
    return f"{key.app}:{key.environment}"
