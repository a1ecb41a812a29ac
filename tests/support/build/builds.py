"""Builds for tests."""

from datetime import UTC, datetime
from typing import Any

from redis.asyncio import Redis

from services.build.builds.build import Build
from shared.models import BuildState, Environment, Event

AT = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)


def build(number: int = 1, *, state: BuildState = BuildState.QUEUED, app: str = "notes", **changes: Any) -> Build:
    fields: dict[str, Any] = {
        "id": f"{app}-{number}",
        "app": app,
        "number": number,
        "commit": f"{number:040x}",
        "branch": "release",
        "environment": Environment.PRODUCTION,
        "state": state,
        "created_at": AT,
    }
    return Build(**{**fields, **changes})


async def events_in(redis: Redis) -> list[Event]:
    """Returns the events of the stream, oldest first."""
    entries: Any = await redis.xrange("events")
    return [Event.model_validate_json(fields["event"]) for _, fields in entries]
