"""The store of flags in memory, for tests."""

import asyncio
import contextlib
from collections.abc import Collection, Mapping
from datetime import datetime

from services.flags.change import Decide, FlagPlace, changes_of, flag_after, mirrors_after
from services.flags.flag import Change, Flag
from shared.models import Environment


class MemoryFlagStore:
    """Implements FlagStore for one process."""

    def __init__(self) -> None:
        self._version = 0
        self._flags: dict[FlagPlace, Flag] = {}
        self._history: list[Change] = []
        self._evaluated: dict[FlagPlace, datetime] = {}
        self._changed = asyncio.Event()

    async def version(self) -> int:
        return self._version

    async def load(self) -> tuple[int, list[Flag]]:
        return self._version, list(self._flags.values())

    async def change(self, keys: Collection[str] | None, decide: Decide, *, actor: str, at: datetime) -> list[Change]:
        flags = {place: flag for place, flag in self._flags.items() if keys is None or place.key in keys}
        changes = changes_of(flags, decide(flags), actor, at)
        mirrors_after(self._owners(), changes)
        for change in changes:
            place = FlagPlace(change.environment, change.key)
            self._flags.pop(place, None)
            if flag := flag_after(change):
                self._flags[place] = flag
            else:
                self._evaluated.pop(place, None)
        self._history += changes
        if changes:
            self._version += 1
            self._changed.set()
        return changes

    def _owners(self) -> dict[str, str]:
        definitions = {place: flag.definition for place, flag in self._flags.items()}
        return {
            definition.mirror: place.key
            for place, definition in definitions.items()
            if place.environment == Environment.PRODUCTION and definition.mirror
        }

    async def announced(self, timeout_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), timeout_s)
        self._changed.clear()

    async def history(self, key: str, *, limit: int, before: str | None = None) -> list[tuple[str, Change]]:
        entries = [(str(index), change) for index, change in enumerate(self._history) if change.key == key]
        older = [entry for entry in entries if before is None or int(entry[0]) < int(before)]
        return older[::-1][:limit]

    async def note_evaluated(self, times: Mapping[FlagPlace, datetime]) -> None:
        self._evaluated |= times

    async def evaluated(self) -> dict[FlagPlace, datetime]:
        return dict(self._evaluated)
