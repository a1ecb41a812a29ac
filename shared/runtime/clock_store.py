"""Detects jumps of the machine's clock, so that a jump does not make data look old and be deleted."""

import json
from datetime import datetime, timedelta
from typing import Any

from redis.asyncio import Redis

LONGEST_GAP = timedelta(days=1)
DOUBTED_FOR = timedelta(days=1)


class ClockTrust:
    """Tells code that deletes old data whether the machine's clock can be trusted. A clock that is set forward by a
    year makes all data look old. So for a day after a jump, in which people can correct the clock, the clock is not
    trusted. A jump is a call of `is_trusted` more than a day after the previous call, or more than a minute before it.
    (So the first call after the service was down for more than a day counts as a jump, too.) The Redis key `key` holds
    the time of the last call, and the time since which there was no jump.
    """

    def __init__(self, redis: Redis, key: str) -> None:
        self._redis = redis
        self._key = key

    async def is_trusted(self, now: datetime) -> bool:
        """Returns False for a day after a jump of the machine's clock, which shows the time `now`; else True. Must be
        called more often than once a day, because a longer time between two calls counts as a jump. Raises RedisError.
        """
        stored: Any = await self._redis.get(self._key)
        begun_at = now - DOUBTED_FOR
        if stored is not None:
            last_at, begun_at = map(datetime.fromisoformat, json.loads(stored))
            if not timedelta(minutes=-1) <= now - last_at <= LONGEST_GAP:
                begun_at = now
        await self._redis.set(self._key, json.dumps([now.isoformat(), begun_at.isoformat()]))
        return now - begun_at >= DOUBTED_FOR
