"""Runs background tasks, at most one at a time for each key."""

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Hashable

from shared.runtime.loops import cancel

log = logging.getLogger(__name__)

RETRY_S = 0.5


class KeyedTasks:
    """Runs at most one task for each key, and at most `at_a_time` tasks in all. It has no queue: a `start` for which
    there is no room does nothing, and the caller tries again in `on_end`, which is called at the end of each task. If a
    task raises an exception, the exception is logged and the task's key pauses for 0.5 s. A key that pauses starts no
    task.
    """

    def __init__(self, name: str, on_end: Callable[[], None] = lambda: None, *, at_a_time: float = math.inf) -> None:
        self._on_end = on_end
        self._name = name
        self._at_a_time = at_a_time
        self._tasks: dict[Hashable, asyncio.Task[None]] = {}
        self._cut_off: set[asyncio.Task[None]] = set()
        self._not_before: dict[Hashable, float] = {}

    def runs(self, key: Hashable) -> bool:
        return key in self._tasks

    def has_room_for(self, key: Hashable) -> bool:
        """Returns True if `start` would start a task for this key now: the key has no task and does not pause, and
        fewer than `at_a_time` tasks run.
        """
        is_due = time.monotonic() >= self._not_before.get(key, 0.0)
        return is_due and key not in self._tasks and len(self._tasks) < self._at_a_time

    def next_pause_end(self) -> float:
        """Returns the earliest time (monotonic seconds) at which a key stops pausing; infinity if no key pauses."""
        now = time.monotonic()
        return min((at for at in self._not_before.values() if at > now), default=math.inf)

    def start(self, key: Hashable, make: Callable[[], Awaitable[None]], *, pause_s: float = 0.0) -> None:
        """Runs `make()` in a task, if there is room and the key has no task and does not pause. After a success, the
        key pauses for `pause_s` seconds.
        """
        if self.has_room_for(key):
            self._tasks[key] = asyncio.create_task(self._run(key, make, pause_s), name=f"{self._name}: {key}")

    def cancel(self, key: Hashable) -> None:
        """Cancels the key's task, if it has one, and ends the key's pause, so that `start` can start a new task at
        once.
        """
        self._not_before.pop(key, None)
        if (task := self._tasks.pop(key, None)) is not None:
            task.cancel()
            self._cut_off.add(task)
            task.add_done_callback(self._cut_off.discard)

    async def close(self) -> None:
        """Cancels all tasks and waits until they have ended."""
        await cancel([*self._tasks.values(), *self._cut_off])

    async def _run(self, key: Hashable, make: Callable[[], Awaitable[None]], pause_s: float) -> None:
        try:
            await make()
        except Exception:
            log.exception("%s: %s failed", self._name, key)
            pause_s = RETRY_S
        finally:
            if self._tasks.get(key) is asyncio.current_task():
                del self._tasks[key]
                now = time.monotonic()
                self._not_before = {each: at for each, at in self._not_before.items() if at > now}
                self._not_before[key] = now + pause_s
                self._on_end()
