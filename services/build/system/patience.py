"""Repeats the start of a process for up to 30 s, while the machine has too little memory, or too few processes or open
files, for it.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import TypeVar

from services.build.system.pipe import Output
from services.build.system.stop import Stop
from shared.host.shortage import is_passing, shortage

T = TypeVar("T")
PATIENCE_S = 30.0
AGAIN_S = 0.25


async def patiently(make: Callable[[], T], output: Output, stop: Stop, patience_s: float = PATIENCE_S) -> T:
    """Calls `make`, which starts a process, and returns its result. If `make` raises an OSError because the machine has
    run out of something that other programs may give back (memory, processes, open files), calls it again for up to
    `patience_s` seconds, and writes once to `output` what it waits for. Raises the OSError after that time, when `stop`
    is set, and at once for any other cause, such as a full disk.
    """
    deadline, told = time.monotonic() + patience_s, False
    while True:
        try:
            return make()
        except OSError as error:
            if not is_passing(error) or time.monotonic() > deadline or stop.is_set():
                raise
            if not told and (problem := shortage(error)) is not None:
                output(f"waits, for up to {patience_s:g} s: {problem.detail}\n".encode())
                told = True
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), AGAIN_S)
