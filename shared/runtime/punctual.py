"""Measures time-outs without the time by which this process itself was delayed, so that its delay is not blamed on the
program that should answer.
"""

import asyncio
import contextlib
import time
from types import TracebackType
from typing import Any, Self

SLICE_S = 0.1
LATE_S = 0.05


class PunctualTimeout:
    """Limits an `async with` block to `timeout_s` seconds in which this event loop was on time; then it cancels the
    block and raises TimeoutError. (`asyncio.timeout` counts all seconds.) A timer of the loop measures the time in
    slices of 0.1 s. A slice that took longer counts as 0.15 s at most: the loop was busy, the process or the machine
    was suspended, or other processes had the CPU, so that an answer could not be read. If any time was not counted, one
    more slice follows at the end, in which an answer that has arrived is read.
    """

    def __init__(self, timeout_s: float) -> None:
        self.lag_s = 0.0
        """The seconds that were not counted."""
        self._left_s = timeout_s
        self._limit = asyncio.timeout(None)
        self._is_last = False

    async def __aenter__(self) -> Self:
        await self._limit.__aenter__()
        self._begin_slice(min(self._left_s, SLICE_S))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._timer.cancel()
        self._count()
        await self._limit.__aexit__(kind, error, traceback)

    def _begin_slice(self, slice_s: float) -> None:
        self._begun = time.monotonic()
        self._timer = asyncio.get_running_loop().call_later(slice_s, self._end_slice)

    def _end_slice(self) -> None:
        self._count()
        if self._left_s > 0:
            self._begin_slice(min(self._left_s, SLICE_S))
        elif self.lag_s and not self._is_last:
            self._is_last = True
            self._begin_slice(SLICE_S)
        else:
            self._begun = time.monotonic()
            self._limit.reschedule(asyncio.get_running_loop().time())  # cancels the block at once

    def _count(self) -> None:
        took_s = time.monotonic() - self._begun
        counted_s = min(took_s, SLICE_S + LATE_S)
        self._left_s -= counted_s
        self.lag_s += took_s - counted_s


async def punctual_wait(task: "asyncio.Future[Any]", timeout_s: float) -> float:
    """Waits until the task is done, at most for `timeout_s` seconds in which this event loop was on time; does not
    cancel the task. Returns the seconds that did not count, because the event loop was late.
    """
    limit = PunctualTimeout(timeout_s)
    with contextlib.suppress(TimeoutError):
        async with limit:
            await asyncio.wait({task})
    return limit.lag_s
