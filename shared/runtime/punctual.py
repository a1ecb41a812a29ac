"""Measures time-outs without the time in which this process was late, so that its delay is not blamed on the process
that should answer.
"""

import asyncio
import time
from typing import Any

SLICE_S = 0.1
LATE_S = 0.05


async def punctual_wait(task: "asyncio.Future[Any]", timeout_s: float) -> float:
    """Waits until the task is done, at most for `timeout_s` seconds in which this event loop was on time; does not
    cancel the task. Returns the seconds that were not counted.

    The wait consists of slices of 0.1 s. If a slice took more than 0.15 s, the rest is not counted: the loop was busy,
    the process or the machine stood still, or others had the CPU, so an answer could not be read. One more slice
    follows then, in which it is read. So the wait takes 11 slices a second, however long each takes.
    """
    left_s, lag_s = timeout_s, 0.0
    while left_s > 0 and not task.done():
        begun = time.monotonic()
        await asyncio.wait({task}, timeout=min(left_s, SLICE_S))
        took_s = time.monotonic() - begun
        counted_s = min(took_s, SLICE_S + LATE_S)
        left_s -= counted_s
        lag_s += took_s - counted_s
    if lag_s:
        await asyncio.wait({task}, timeout=SLICE_S)
    return lag_s
