"""Holds all flags in memory, so that evaluation does not wait for Redis and works while Redis is down."""

import asyncio
import contextlib
import gc
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from services.flags.change import Decide, FlagId
from services.flags.evaluation import Evaluation, EvaluationError, FlagEvaluator, evaluation_context
from services.flags.flag import Change, Flag
from services.flags.flag_set import FlagSet
from services.flags.slices import sliced
from services.flags.store import Delta, FlagStore, StorePosition
from shared.errors import Unavailable
from shared.models import Environment
from shared.store import RedisError

UNREAD = "the flags have not been read from Redis yet"
RELOADS = 3
POLL_S = 3.0  # longest delay of a change that another program wrote, without the stream of changes

Sets = Mapping[Environment, FlagSet]
Evaluators = Mapping[FlagId, FlagEvaluator | None]


@dataclass(frozen=True)
class FlagSnapshot:
    """Identifies a state of one environment's flags by the digest of their definitions. `since` is when this instance
    of the service first saw it.
    """

    digest: str
    since: datetime

    @property
    def etag(self) -> str:
        return f'"{self.digest}"'


class FlagCache:
    """Answers reads from memory and passes writes to the store. After a write returns, reads show it. A change, also
    one by another instance of the service, is read from the store flag by flag (`FlagStore.since`). All flags are read
    at the start, and whenever the store cannot tell what has changed; this happens in slices, so that requests are
    answered in between. Readers see either all of a write or nothing of it.
    """

    def __init__(
        self, store: FlagStore, now: Callable[[], datetime], on_mirrors: Callable[[], None] = lambda: None
    ) -> None:
        """Creates an empty cache. `on_mirrors` is called when `metadata.mirror` of a flag (a second Redis key that
        holds its value) may have changed.
        """
        self._store = store
        self._now = now
        self._on_mirrors = on_mirrors
        self._position: StorePosition | None = None
        self._sets: Sets = {each: FlagSet() for each in Environment}
        self._snapshots: dict[Environment, FlagSnapshot] = {}
        self._stale = True
        self._refreshing = asyncio.Lock()
        self._changed = asyncio.Event()
        self._closed = False

    async def follow(self) -> None:
        """Reads changes once, then waits up to 3 s for a further change. A background loop calls this method again and
        again. Raises RedisError if Redis does not answer.
        """
        await self.refresh()
        if self._position:
            await self._store.wait_for_change(self._position, POLL_S)

    async def refresh(self) -> None:
        """Reads the changes since the last call from the store. Raises RedisError; the property `stale` is then True
        until a later call succeeds.
        """
        async with self._refreshing:
            try:
                if self._position is None or not await self._catch_up(self._position):
                    await self._reload()
                self._stale = False
            except RedisError:
                self._stale = True
                raise

    async def _catch_up(self, seen: StorePosition) -> bool:
        """Applies the changes after the position `seen` in the store and returns True. Returns False, and applies
        nothing, if the store cannot tell what has changed.
        """
        delta = await self._store.since(seen)
        if delta is None:
            return False
        changed = await self._evaluators(delta.flags)
        if any(self._mirror(flag_id) != _mirror(evaluator) for flag_id, evaluator in changed.items()):
            self._on_mirrors()
        _apply(self._sets, changed)
        self._position = delta.position
        self._tell_readers()
        return True

    async def _reload(self) -> None:
        """Reads all flags from the store. A flag whose stored text has not changed is not parsed again."""
        for _ in range(RELOADS):
            position = await self._store.position()
            sets = {each: FlagSet() for each in Environment}
            async for flags in self._store.scan():
                _apply(sets, await self._evaluators(flags))
                gc.freeze()  # excludes all flags from garbage collections, which would delay requests by 0.4 s
            delta = await self._store.since(position)
            if delta is not None:
                break
        else:  # another program writes without telling: uses what was read, and reads again next time
            delta = Delta(position, {})
        _apply(sets, await self._evaluators(delta.flags))
        self._sets, self._position = sets, delta.position
        self._on_mirrors()
        self._tell_readers()

    async def _evaluators(self, flags: Mapping[FlagId, str | None]) -> Evaluators:
        made: dict[FlagId, FlagEvaluator | None] = {}
        async for part in sliced(flags.items()):
            made |= {flag_id: self._evaluator(flag_id, text) for flag_id, text in part}
        return made

    def _evaluator(self, flag_id: FlagId, text: str | None) -> FlagEvaluator | None:
        if text is None:
            return None
        current = self._sets[flag_id.environment].get(flag_id.key)
        if current and current.text == text:
            return current
        return FlagEvaluator(Flag.model_validate_json(text), text)

    def _mirror(self, flag_id: FlagId) -> str | None:
        return _mirror(self._sets[flag_id.environment].get(flag_id.key))

    def _tell_readers(self) -> None:
        """Creates a new snapshot of each environment whose flags have changed, and wakes the tasks that wait for
        one.
        """
        for environment, flags in self._sets.items():
            current = self._snapshots.get(environment)
            if current is None or current.digest != flags.digest:
                self._snapshots[environment] = FlagSnapshot(flags.digest, self._now())
                self._wake_readers()

    def _wake_readers(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def close(self) -> None:
        """Ends every waiting `next_snapshot`, which then returns None."""
        self._closed = True
        self._wake_readers()

    async def change(self, keys: Collection[str], decide: Decide, *, actor: str, at: datetime) -> list[Change]:
        """Changes flags in the store: `decide` gets the stored flags with these keys, and returns their new
        definitions. `actor` and `at` are the author and the time of the change. Returns the changes once readers of
        this cache see them.
        """
        changes = await self._store.change(keys, decide, actor=actor, at=at)
        await self.show_write()
        return changes

    async def show_write(self) -> None:
        """Reads the last write from the store, so that readers see it. If Redis does not answer, a background loop
        reads it later.
        """
        with contextlib.suppress(RedisError):
            await self.refresh()

    @property
    def stale(self) -> bool:
        """Returns True if the flags may have changed since they were read: before they were first read from Redis, and
        after Redis did not answer the last time.
        """
        return self._stale

    def snapshot(self, environment: Environment) -> FlagSnapshot:
        """Returns the state of the environment's flags. Raises Unavailable before flags were first read from Redis."""
        if not self._snapshots:
            raise Unavailable(f"{UNREAD}; try again in a moment")
        return self._snapshots[environment]

    async def unread(self) -> str | None:
        """Returns a text that says that the flags have not been read yet; None if they have. `GET /ready` shows it."""
        return None if self._snapshots else UNREAD

    async def next_snapshot(self, environment: Environment, seen: str | None) -> FlagSnapshot | None:
        """Waits until the ETag of the environment's flags differs from `seen`, then returns their state. If `seen` is
        None, waits only until flags have been read from Redis. Returns None after `close()`.
        """
        while not self._closed:
            if self._snapshots and self._snapshots[environment].etag != seen:
                return self._snapshots[environment]
            await self._changed.wait()
        return None

    def flags(self, environment: Environment) -> FlagSet:
        """Returns the environment's flags, in an object that later changes of flags may change. Raises Unavailable
        before flags were first read from Redis.
        """
        self.snapshot(environment)
        return self._sets[environment]

    def evaluate(self, environment: Environment, key: str, context: Mapping[str, Any]) -> Evaluation:
        """Evaluates the flag. While Redis is down, uses the last known flags and sets `stale: true` in the result's
        metadata. Raises EvaluationError, also if there is no such flag, and Unavailable before flags were first read
        from Redis.
        """
        evaluator = self.flags(environment).get(key)
        if evaluator is None:
            raise EvaluationError("FLAG_NOT_FOUND", f"there is no flag {key}; GET /flags lists those there are")
        evaluation = evaluator.evaluate(evaluation_context(context))
        return marked_stale(evaluation) if self._stale else evaluation


def marked_stale(evaluation: Evaluation) -> Evaluation:
    return replace(evaluation, metadata={**evaluation.metadata, "stale": True})


def _apply(sets: Sets, changed: Evaluators) -> None:
    for flag_id, evaluator in changed.items():
        if evaluator:
            sets[flag_id.environment].put(evaluator)
        else:
            sets[flag_id.environment].remove(flag_id.key)


def _mirror(evaluator: FlagEvaluator | None) -> str | None:
    return evaluator.flag.definition.mirror if evaluator else None
