"""Runs the background work of one environment: each piece at most once at a time, with a pause or back-off between."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Hashable

from shared.runtime.loops import cancel

log = logging.getLogger(__name__)

RETRY_S = 0.5


class Jobs:
    """Runs pieces of work as tasks, by key. `on_end` is called after each piece that was not cancelled by `cancel`. A
    piece that raises is logged and may begin again after 0.5 s.
    """

    def __init__(self, on_end: Callable[[], None]) -> None:
        self._on_end = on_end
        self._tasks: dict[Hashable, asyncio.Task[None]] = {}
        self._not_before: dict[Hashable, float] = {}

    def ensure(self, key: Hashable, make: Callable[[], Awaitable[None]], *, pause_s: float = 0.0) -> None:
        """Begins the piece, unless it runs, or ended less than `pause_s` (after an error 0.5 s) ago."""
        if key not in self._tasks and time.monotonic() >= self._not_before.get(key, 0.0):
            self._tasks[key] = asyncio.create_task(self._run(key, make, pause_s))

    def runs(self, key: Hashable) -> bool:
        return key in self._tasks

    def cancel(self, key: Hashable) -> None:
        """Cancels the piece if it runs, and ends its pause, so that it may begin again at once."""
        self._not_before.pop(key, None)
        if (task := self._tasks.pop(key, None)) is not None:
            task.cancel()

    async def close(self) -> None:
        """Cancels all pieces, and waits until they have ended."""
        await cancel(self._tasks.values())

    async def _run(self, key: Hashable, make: Callable[[], Awaitable[None]], pause_s: float) -> None:
        try:
            await make()
            self._not_before[key] = time.monotonic() + pause_s
        except Exception:
            log.exception("%s failed", key)
            self._not_before[key] = time.monotonic() + RETRY_S
        finally:
            if self._tasks.get(key) is asyncio.current_task():
                del self._tasks[key]
                self._on_end()
