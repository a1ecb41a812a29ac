"""Caches data that are requested far more often than they change."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Set
from typing import Generic, TypeVar

KEPT_S = 5.0

Key = TypeVar("Key")
Part = TypeVar("Part")


class KeptParts(Generic[Key, Part]):
    """Caches data that consist of one part for each key, such as the instances of each app. After a change of one part,
    only that part is read again, so that the cost of a change does not grow with the number of parts. All parts are
    read again if they were last read more than 5 s ago. `read_all` reads all parts from their source, and `read` those
    of the given keys; neither returns empty parts.
    """

    def __init__(
        self,
        read_all: Callable[[], Awaitable[dict[Key, Part]]],
        read: Callable[[Set[Key]], Awaitable[dict[Key, Part]]],
    ) -> None:
        self._read_all = read_all
        self._read = read
        self._parts: dict[Key, Part] = {}
        self._read_at = float("-inf")
        self._dropped: set[Key] = set()
        self._reading = asyncio.Lock()

    def drop(self, key: Key) -> None:
        """Makes the next `get` read the part of the key again. Call it after each change of that part."""
        self._dropped.add(key)

    async def get(self) -> Mapping[Key, Part]:
        """Returns key → part; callers must not change the mapping. Reads the dropped parts again, or all parts if they
        are older than 5 s. Passes on the exceptions of these readings; the next call then reads again.
        """
        async with self._reading:
            dropped, self._dropped = self._dropped, set()
            try:
                await self._refresh(dropped)
            except BaseException:
                self._dropped |= dropped
                raise
            return self._parts

    async def _refresh(self, dropped: Set[Key]) -> None:
        now = time.monotonic()
        if now - self._read_at >= KEPT_S:
            self._parts, self._read_at = await self._read_all(), now
        elif dropped:
            read = await self._read(dropped)
            self._parts = {key: part for key, part in self._parts.items() if key not in dropped} | read
