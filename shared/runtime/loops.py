"""Runs background loops, and lets `/ready` report those that fail."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import Any

from shared.runtime.backoff import backoff_s

log = logging.getLogger(__name__)


class Loop:
    """Runs `step` every `every_s` seconds, and at once after `wake()` or when the event `woken` is set. Each step
    clears `woken`, so every loop needs an event of its own; an object that is created before the loop and must wake it
    gets `woken.set`. A step may return the seconds until the next one, if that is to come earlier than after `every_s`.
    If a step raises an exception, it is run again after a back-off (doubling from `every_s`, at least 0.1 s, at most 5
    s); of several failures in a row only the first is logged. After `stale_s` seconds without a successful step the
    loop is stale, which `GET /ready` reports.
    """

    def __init__(
        self,
        name: str,
        step: Callable[[], Awaitable[float | None]],
        *,
        every_s: float,
        stale_s: float = 15.0,
        woken: asyncio.Event | None = None,
    ) -> None:
        self.name = name
        self.error: str | None = None
        self._step = step
        self._every_s = every_s
        self._stale_s = stale_s
        self._well_at = time.monotonic()
        self._woken = woken or asyncio.Event()

    def wake(self) -> None:
        """Ends the present wait, so that the next step runs at once."""
        self._woken.set()

    def stale(self) -> str | None:
        """Returns a text for people if no step of the loop has succeeded for longer than the limit given to the
        constructor; else None.
        """
        silent_s = time.monotonic() - self._well_at
        if silent_s <= self._stale_s:
            return None
        return f"no step of {self.name} has succeeded for {silent_s:.0f} s: {self.error or 'still running'}"

    async def run(self) -> None:
        """Runs the loop's steps until this task is cancelled."""
        failures = 0
        while True:
            self._woken.clear()
            wait_s = self._every_s
            try:
                if (sooner_s := await self._step()) is not None:
                    wait_s = min(wait_s, sooner_s)
                self._well_at, self.error, failures = time.monotonic(), None, 0
            except Exception as error:
                self.error = f"{type(error).__name__}: {error}"
                failures += 1
                if failures == 1:
                    log.exception("loop %s failed", self.name)
                wait_s = backoff_s(failures, first_s=max(self._every_s, 0.1), longest_s=5.0)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):  # cheaper than `wait_for`, which makes a task each time
                    await self._woken.wait()


async def cancel(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancels the tasks every 0.5 s until all have ended, because redis-py on Python 3.11 may swallow a single
    cancellation.
    """
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=0.5)


@contextlib.asynccontextmanager
async def running(loops: Sequence[Loop]) -> AsyncIterator[None]:
    """Runs the loops in the background during the `async with` block."""
    tasks = [asyncio.create_task(loop.run(), name=loop.name) for loop in loops]
    try:
        yield
    finally:
        await cancel(tasks)
