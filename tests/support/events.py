"""The event stream as tests read it."""

from typing import Any

from redis.asyncio import Redis

from shared.events import STREAM
from shared.models import Event


async def stored_events(redis: Redis) -> list[Event]:
    """Returns every event in the stream, oldest first."""
    entries: Any = await redis.xrange(STREAM)
    return [Event.model_validate_json(fields["event"]) for _, fields in entries]
