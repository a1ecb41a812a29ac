"""Runs background work, at most one task at a time for each app."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from shared.runtime.loops import cancel

log = logging.getLogger(__name__)


class AppTasks:
    """Runs at most `at_a_time` tasks, and at most one for each app.

    An exception of a task is logged and not raised: the work itself is stored, and the caller starts it again. `done`
    is called after each task.
    """

    def __init__(self, name: str, at_a_time: int) -> None:
        self._name = name
        self._at_a_time = at_a_time
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self.done: Callable[[], None] = lambda: None

    def has_room_for(self, app: str) -> bool:
        return app not in self._tasks and len(self._tasks) < self._at_a_time

    def start(self, app: str, work: Coroutine[Any, Any, None]) -> None:
        """Starts the task of `app`. The caller asks `has_room_for` first."""
        task = self._tasks[app] = asyncio.create_task(work, name=f"{self._name} of {app}")
        task.add_done_callback(lambda task: self._ended(app, task))

    @contextlib.asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """Cancels the tasks that still run when the block ends."""
        try:
            yield
        finally:
            await cancel(self._tasks.values())

    def _ended(self, app: str, task: "asyncio.Task[None]") -> None:
        del self._tasks[app]
        if not task.cancelled() and (error := task.exception()):
            log.error("%s broke off and is begun again: %s: %s", task.get_name(), type(error).__name__, error)
        self.done()
