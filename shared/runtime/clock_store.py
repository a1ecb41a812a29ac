"""Stores since when the clock has run without a gap, so that nothing is deleted by its age after a jump."""

import json
from datetime import datetime, timedelta
from typing import Any

from redis.asyncio import Redis

LONGEST_GAP = timedelta(days=1)
DOUBTED_FOR = timedelta(days=1)


class ClockTrust:
    """Says whether the clock can be believed by one who deletes what is old. A clock that was set forward by a year
    makes everything old; so after a gap of more than a day, or a step back, it is doubted for a day, in which people
    can correct it. The `key` of Redis holds the time of the last look, and of the last gap.
    """

    def __init__(self, redis: Redis, key: str) -> None:
        self._redis = redis
        self._key = key

    async def is_trusted(self, now: datetime) -> bool:
        """Returns False while the clock is doubted. Call it more often than once a day. Raises RedisError."""
        stored: Any = await self._redis.get(self._key)
        begun_at = now - DOUBTED_FOR
        if stored is not None:
            last_at, begun_at = map(datetime.fromisoformat, json.loads(stored))
            if not timedelta(minutes=-1) <= now - last_at <= LONGEST_GAP:
                begun_at = now
        await self._redis.set(self._key, json.dumps([now.isoformat(), begun_at.isoformat()]))
        return now - begun_at >= DOUBTED_FOR
