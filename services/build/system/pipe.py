"""Reads a pipe in the event loop. It does not use asyncio's `connect_read_pipe`, because its transport under uvloop
closes the descriptor twice, and the second close may hit another file that has got the same number.
"""

import asyncio
import contextlib
import fcntl
import os
from collections.abc import Callable

Output = Callable[[bytes], None]  # receives what a program prints, as it arrives
CHUNK = 64 * 1024
ROOM = 256 * 1024  # capacity of the pipe, so that programs seldom wait; Linux' default is 64 KiB
GATHER_S = 0.005


class PipeEnd:
    """Reads a pipe. After a read that fills less than 64 KiB, the next one waits 5 ms, so that the output of a program
    that prints line by line is read in larger pieces. The caller owns `descriptor`, and closes it after the last
    `read`.
    """

    def __init__(self, descriptor: int) -> None:
        os.set_blocking(descriptor, False)
        with contextlib.suppress(OSError):  # the system limits the memory that one user may have in pipes
            fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, ROOM)
        self._descriptor = descriptor
        self._not_before = 0.0

    async def read(self) -> bytes:
        """Waits for data and returns at most 64 KiB; empty bytes once all writers have closed the pipe. May be
        cancelled. Calls must not overlap."""
        loop = asyncio.get_running_loop()
        if (early_s := self._not_before - loop.time()) > 0:
            await asyncio.sleep(early_s)
        await readable(self._descriptor)
        data = os.read(self._descriptor, CHUNK)
        if len(data) < CHUNK:
            self._not_before = loop.time() + GATHER_S
        return data


async def readable(descriptor: int) -> None:
    """Waits until the descriptor is readable. For a pidfd that means that the process has ended. May be cancelled."""
    loop, event = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(descriptor, event.set)
    try:
        await event.wait()
    finally:
        loop.remove_reader(descriptor)
