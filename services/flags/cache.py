"""Keeps all flags in memory, so that evaluation does not wait for Redis and works while Redis is down."""

import asyncio
import contextlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from services.flags.change import Decide
from services.flags.evaluation import Evaluation, FlagSet
from services.flags.flag import Change
from services.flags.store import FlagStore
from shared.errors import Unavailable
from shared.models import Environment
from shared.store import RedisError

POLL_S = 0.2  # longest delay of a change whose announcement was lost


@dataclass(frozen=True)
class FlagSnapshot:
    """The flags of one environment at one moment. `etag` (with its quotes) depends only on the flags."""

    flags: FlagSet
    since: datetime

    @property
    def etag(self) -> str:
        return f'"{self.flags.digest}"'


class FlagCache:
    """Answers reads from memory and passes writes to the store; after a write returns, reads show it. Other instances
    of the service reload when the write's announcement reaches them, else at their next `refresh()`.
    """

    def __init__(
        self, store: FlagStore, now: Callable[[], datetime], on_change: Callable[[], None] = lambda: None
    ) -> None:
        """Creates an empty cache; `on_change` is called after each refresh that loaded a new version."""
        self._store = store
        self._now = now
        self._on_change = on_change
        self._version: int | None = None
        self._snapshots: dict[Environment, FlagSnapshot] = {}
        self._stale = True
        self._refreshing = asyncio.Lock()
        self._changed = asyncio.Event()
        self._closed = False

    async def follow(self) -> None:
        """Runs one step of the loop: `refresh()`, then waits up to 0.2 s for an announcement. Raises RedisError."""
        await self.refresh()
        await self._store.announced(POLL_S)

    async def refresh(self) -> None:
        """Reloads the flags if the store has changed. Raises RedisError; answers are then `stale` until a success."""
        async with self._refreshing:
            try:
                if self._version is None or await self._store.version() != self._version:
                    version, flags = await self._store.load()
                    sets = {each: FlagSet(flag for flag in flags if flag.environment == each) for each in Environment}
                    self._version = version
                    self._take_over(sets)
                self._stale = False
            except RedisError:
                self._stale = True
                raise

    def _take_over(self, sets: dict[Environment, FlagSet]) -> None:
        for environment, flags in sets.items():
            current = self._snapshots.get(environment)
            if current is None or current.flags.digest != flags.digest:
                self._snapshots[environment] = FlagSnapshot(flags, self._now())
        self._wake_readers()
        self._on_change()

    def _wake_readers(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def close(self) -> None:
        """Ends every waiting `next_snapshot`, which then returns None."""
        self._closed = True
        self._wake_readers()

    async def change(self, keys: Collection[str] | None, decide: Decide, *, actor: str, at: datetime) -> list[Change]:
        """Changes flags like `FlagStore.change`, and refreshes the cache."""
        changes = await self._store.change(keys, decide, actor=actor, at=at)
        with contextlib.suppress(RedisError):  # it is stored; the loop refreshes when Redis is back
            await self.refresh()
        return changes

    @property
    def stale(self) -> bool:
        """True after a refresh that failed, and before the first one: the flags may have changed since."""
        return self._stale

    def snapshot(self, environment: Environment) -> FlagSnapshot:
        """Returns the environment's flags. Raises Unavailable before the first refresh."""
        if not self._snapshots:
            raise Unavailable("the flags have not been read from Redis yet; try again in a moment")
        return self._snapshots[environment]

    async def next_snapshot(self, environment: Environment, seen: str | None) -> FlagSnapshot | None:
        """Waits until the environment's etag is not `seen`, then returns the flags; None after `close()`."""
        while not self._closed:
            if self._snapshots and self._snapshots[environment].etag != seen:
                return self._snapshots[environment]
            await self._changed.wait()
        return None

    def flags(self, environment: Environment) -> FlagSet:
        """Returns the environment's flags. Raises Unavailable before the first refresh."""
        return self.snapshot(environment).flags

    def evaluate(self, environment: Environment, key: str, context: Mapping[str, Any]) -> Evaluation:
        """Evaluates the flag. While Redis is down it uses the last known flags, and the result's metadata has `stale:
        true`. Raises EvaluationError, or Unavailable before the first refresh.
        """
        evaluation = self.flags(environment).evaluate(key, context)
        return replace(evaluation, metadata={**evaluation.metadata, "stale": True}) if self._stale else evaluation
