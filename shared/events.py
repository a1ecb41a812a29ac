"""Appends events to the Redis stream `events`, which keeps about the last 10 000 of them, and reads them from it."""

import logging
from typing import Any

from pydantic import ValidationError
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from shared.models import Event

log = logging.getLogger(__name__)

STREAM = "events"
KEPT = 10_000
IDLE_BLOCK_MS = 3000  # below the 5 s after which the Redis client gives up a command
UNUSABLE = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""Exceptions that a consumer raises because of the content of an event. A later try would raise them again, so the
event is skipped.
"""


def append(target: Redis, event: Event) -> Any:
    """Appends the event to the stream. On a pipeline it only queues the command, so that the event is stored in the
    same transaction as its cause; on a client it returns an awaitable.
    """
    return target.xadd(STREAM, {"event": event.model_dump_json(exclude_none=True)}, maxlen=KEPT, approximate=True)


class EventFollower:
    """Reads the stream `events` for the consumer group `group`. It delivers each event at least once, also across
    restarts. A group must have only one follower at a time.
    """

    def __init__(self, redis: Redis, group: str) -> None:
        self._redis = redis
        self._group = group
        self._consumer = group  # one follower for each group, so unconfirmed events are its own
        self._unconfirmed: set[str] | None = None  # None: unconfirmed events have yet to be looked up

    async def read(self, block_ms: int = IDLE_BLOCK_MS, count: int = 100) -> list[tuple[str, Event]]:
        """Returns up to `count` next events with their stream ids; an empty list if none has come after `block_ms`
        milliseconds. Events that were read before, also by an earlier process, and not confirmed come first. An entry
        that is not an event is logged and confirmed. Raises RedisError if Redis does not answer.
        """
        taken = await self._take("0", block_ms, count) if self._unconfirmed != set() else []
        entries = taken or await self._take(">", block_ms, count)
        self._unconfirmed = {entry_id for entry_id, _ in entries} or None
        found = []
        for entry_id, fields in entries:
            if not fields:  # trimmed from the stream before it was confirmed
                await self.confirm(entry_id)
                continue
            try:
                found.append((entry_id, Event.model_validate_json(fields["event"])))
            except (KeyError, ValidationError) as error:
                await self.skip(entry_id, error)
        return found

    async def _take(self, start: str, block_ms: int, count: int) -> list[tuple[str, dict[str, str]]]:
        try:
            reply: Any = await self._redis.xreadgroup(
                self._group, self._consumer, {STREAM: start}, count=count, block=block_ms
            )
        except ResponseError as error:
            if "NOGROUP" not in str(error):
                raise
            await self._redis.xgroup_create(STREAM, self._group, id="0", mkstream=True)
            return []
        entries: list[tuple[str, dict[str, str]]] = reply[0][1] if reply else []
        return entries

    async def skip(self, entry_id: str, error: Exception) -> None:
        """Logs that this group cannot use the event, because of `error`, and confirms it; otherwise it would be read
        again and again and hold up all later events. Raises RedisError.
        """
        log.error("%s: the event %s cannot be used and is skipped", self._group, entry_id, exc_info=error)
        await self.confirm(entry_id)

    async def confirm(self, entry_id: str) -> None:
        """Records that the group is done with the event that has this stream id, so that it is not read again. Raises
        RedisError.
        """
        await self._redis.xack(STREAM, self._group, entry_id)
        if self._unconfirmed:
            self._unconfirmed.discard(entry_id)
