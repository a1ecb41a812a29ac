"""Reads the read end of a pipe in the event loop.

`connect_read_pipe` is not used: under uvloop its transport closes the descriptor twice (libuv does, then the file
object). In between another thread may have been given the same number, and then that thread's file is closed.
"""

import asyncio
import contextlib
import fcntl
import os
from collections.abc import Callable

Output = Callable[[bytes], None]  # takes what a program prints, as it arrives
CHUNK = 64 * 1024
ROOM = 256 * 1024  # in the pipe: what is printed meanwhile waits for nobody. Linux' default is 64 KiB
GATHER_S = 0.005


class PipeEnd:
    """Reads a pipe, and gathers small pieces: after a short read the next one waits 5 ms.

    The caller keeps the ownership of `descriptor` and closes it after the last `read` has returned. When a program
    prints line by line, the first piece is read at once and the others together: each read costs as much as a thousand
    lines.
    """

    def __init__(self, descriptor: int) -> None:
        os.set_blocking(descriptor, False)
        with contextlib.suppress(OSError):  # the user may hold so much in pipes already that more is not granted
            fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, ROOM)
        self._descriptor = descriptor
        self._not_before = 0.0

    async def read(self) -> bytes:
        """Waits for data and returns it, at most 64 KiB; returns empty bytes when every writer has closed the pipe. One
        call at a time; it may be cancelled."""
        loop = asyncio.get_running_loop()
        if (early_s := self._not_before - loop.time()) > 0:
            await asyncio.sleep(early_s)
        await readable(self._descriptor)
        data = os.read(self._descriptor, CHUNK)
        if len(data) < CHUNK:
            self._not_before = loop.time() + GATHER_S
        return data


async def readable(descriptor: int) -> None:
    """Waits until there is something to read; for a pidfd, until its process has ended. It may be cancelled."""
    loop, event = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(descriptor, event.set)
    try:
        await event.wait()
    finally:
        loop.remove_reader(descriptor)
