"""Caches a value that is requested far more often than it changes."""

import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

KEPT_S = 5.0

Value = TypeVar("Value")


class Kept(Generic[Value]):
    """Caches the value that `read` returns. `get` reads it again if the last reading began more than 5 s ago, or if
    `drop` has been called since.
    """

    def __init__(self, read: Callable[[], Awaitable[Value]]) -> None:
        self._read = read
        self._version = 0
        self._last: tuple[int, float, Value] | None = None

    def drop(self) -> None:
        """Makes the next `get` read the value again. Callers do this after each change."""
        self._version += 1

    async def get(self) -> Value:
        """Returns the value, which callers must not change. Raises the exceptions of `read`."""
        version, now = self._version, time.monotonic()
        if self._last is None or self._last[0] != version or now - self._last[1] >= KEPT_S:
            self._last = version, now, await self._read()
        return self._last[2]
