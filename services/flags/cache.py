"""The copy of all flags in memory: evaluation never waits for Redis, and goes on without it."""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from services.flags.evaluation import Evaluation, FlagSet
from services.flags.flag import Change
from services.flags.store import Decide, FlagStore
from shared.errors import Unavailable
from shared.models import Environment
from shared.store import RedisError


class FlagCache:
    """Reads from memory; writes go through to the store and are visible here when they return. Other copies of the
    service see them with their next `refresh()`.
    """

    def __init__(self, store: FlagStore) -> None:
        self._store = store
        self._version: int | None = None
        self._sets: dict[Environment, FlagSet] = {}
        self._stale = True
        self._refreshing = asyncio.Lock()

    async def refresh(self) -> None:
        """Takes over what changed in the store. Raises RedisError, and then says so with each answer (`stale`)."""
        async with self._refreshing:
            try:
                if self._version is None or await self._store.version() != self._version:
                    version, flags = await self._store.load()
                    self._sets = {
                        environment: FlagSet(flag for flag in flags if flag.environment == environment)
                        for environment in Environment
                    }
                    self._version = version
                self._stale = False
            except RedisError:
                self._stale = True
                raise

    async def change(
        self, key: str, environments: Sequence[Environment], decide: Decide, *, actor: str, at: datetime
    ) -> list[Change]:
        """As FlagStore.change."""
        changes = await self._store.change(key, environments, decide, actor=actor, at=at)
        with contextlib.suppress(RedisError):  # it is stored; the loop refreshes when Redis is back
            await self.refresh()
        return changes

    def flags(self, environment: Environment) -> FlagSet:
        """Raises Unavailable before the first refresh: unknown is not the same as no flags."""
        if not self._sets:
            raise Unavailable("the flags have not been read from Redis yet; try again in a moment")
        return self._sets[environment]

    def evaluate(self, environment: Environment, key: str, context: Mapping[str, Any]) -> Evaluation:
        """Raises EvaluationError and Unavailable. While Redis is away: by the last known flags, metadata `stale`."""
        evaluation = self.flags(environment).evaluate(key, context)
        return replace(evaluation, metadata={**evaluation.metadata, "stale": True}) if self._stale else evaluation
