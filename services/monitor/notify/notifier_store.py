"""Stores in Redis the notifiers and silences that people have set."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from redis.asyncio import Redis

from services.monitor.notify.recipient import Recipient
from services.monitor.notify.silence import Silence

NOTIFIERS = "monitor:notifiers"
SILENCES = "monitor:silences"


class NotifierStore:
    """Stores notifiers in the list `monitor:notifiers`, with the secrets in their URLs, and silences in the hash
    `monitor:silences` (by id). Every method raises `redis.RedisError` if Redis is unreachable; writes are idempotent.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def recipients(self) -> list[Recipient]:
        """Returns the stored notifiers, in the order in which people set them."""
        texts: list[Any] = await self._redis.lrange(NOTIFIERS, 0, -1)
        return [Recipient.model_validate_json(text) for text in texts]

    async def put_recipients(self, recipients: Sequence[Recipient]) -> None:
        """Replaces all stored notifiers by these."""
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.delete(NOTIFIERS)
            if recipients:
                pipe.rpush(NOTIFIERS, *(each.model_dump_json() for each in recipients))
            await pipe.execute()

    async def silences(self) -> list[Silence]:
        """Returns all silences, newest first, including expired ones."""
        found = [Silence.model_validate_json(text) for text in await self._redis.hvals(SILENCES)]
        return sorted(found, key=lambda each: each.created_at, reverse=True)

    async def put_silence(self, silence: Silence, now: datetime) -> None:
        """Stores the silence and deletes silences that have expired before `now`."""
        over = [each.id for each in await self.silences() if not each.is_active(now)]
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.hset(SILENCES, silence.id, silence.model_dump_json())
            if over:
                pipe.hdel(SILENCES, *over)
            await pipe.execute()

    async def forget(self, app: str) -> None:
        """Deletes the silences that name the app."""
        for silence in await self.silences():
            if silence.app == app:
                await self.delete_silence(silence.id)

    async def delete_silence(self, silence_id: str) -> bool:
        """Deletes the silence; returns True if it existed."""
        return bool(await self._redis.hdel(SILENCES, silence_id))
