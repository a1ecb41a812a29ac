"""Stores apps' own metrics and hooks, and the calls of hooks that are due after a rollout."""

import logging
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from pydantic import JsonValue, ValidationError
from redis.asyncio import Redis

from services.monitor.checks.analysis_settings import AnalysisSettings
from shared.events import append
from shared.models import Event, View

log = logging.getLogger(__name__)

SETTINGS = "monitor:checks"
DUE = "monitor:hooks-due"


class DueHook(View):
    """Describes a call of a hook after the end of a rollout that has not been answered yet. `body` is what the hook
    gets.
    """

    id: str
    app: str
    hook: str
    body: dict[str, JsonValue]
    created_at: datetime
    next_at: datetime
    tries: int = 0

    def later(self, wait_s: float, now: datetime) -> "DueHook":
        """Returns the call after a failed try: the next try is due in `wait_s` seconds."""
        return self.model_copy(update={"tries": self.tries + 1, "next_at": now + timedelta(seconds=wait_s)})


class CheckStore:
    """Stores apps' own metrics and hooks in the hash `monitor:checks` (by app), with encrypted headers, and calls of
    hooks that are due in the hash `monitor:hooks-due` (by id). Every method raises `redis.RedisError` if Redis is
    unreachable; writes are idempotent.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def settings(self) -> dict[str, AnalysisSettings]:
        """Returns app → settings. An entry that cannot be parsed is logged and left out."""
        found = {}
        entries: Any = await self._redis.hgetall(SETTINGS)
        for app, text in entries.items():
            try:
                found[app] = AnalysisSettings.model_validate_json(text)
            except ValidationError as error:
                log.error("the own metrics and hooks of %s cannot be read and are left out: %s", app, error)
        return found

    async def put(self, settings: AnalysisSettings) -> None:
        await self._redis.hset(SETTINGS, settings.app, settings.model_dump_json())

    async def delete(self, app: str) -> None:
        """Deletes the app's settings; does nothing if there are none."""
        await self._redis.hdel(SETTINGS, app)

    async def due(self) -> list[DueHook]:
        """Returns all calls of hooks that are due. An entry that cannot be parsed is logged and deleted."""
        found = []
        entries: Any = await self._redis.hgetall(DUE)
        for name, text in entries.items():
            try:
                found.append(DueHook.model_validate_json(text))
            except ValidationError as error:
                log.error("the due hook %s cannot be read and is deleted: %s", name, error)
                await self._redis.hdel(DUE, name)
        return found

    async def put_due(self, hooks: Iterable[DueHook]) -> None:
        """Stores calls of hooks that are due; one with the same id is replaced."""
        async with self._redis.pipeline(transaction=True) as pipe:
            for each in hooks:
                pipe.hset(DUE, each.id, each.model_dump_json())
            await pipe.execute()

    async def settle(self, hook: DueHook) -> None:
        """Deletes the due call of a hook, which has been answered or given up."""
        await self._redis.hdel(DUE, hook.id)

    async def forget(self, app: str) -> None:
        """Deletes all that is stored about the app."""
        mine = [each.id for each in await self.due() if each.app == app]
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.hdel(SETTINGS, app)
            if mine:
                pipe.hdel(DUE, *mine)
            await pipe.execute()

    async def tell(self, event: Event) -> None:
        """Appends the event to the stream of events."""
        await append(self._redis, event)
