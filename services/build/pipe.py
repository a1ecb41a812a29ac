"""The reading end of a pipe, read in the event loop.

Not by `connect_read_pipe`: under uvloop its transport closes the descriptor twice (libuv does, then the file object).
In between another thread may have been given the same number, and then it is that one's file which is closed.
"""

import asyncio
import os

CHUNK = 64 * 1024


class PipeEnd:
    """`descriptor` stays its owner's to close, after the last `read` has returned."""

    def __init__(self, descriptor: int) -> None:
        os.set_blocking(descriptor, False)
        self._descriptor = descriptor

    async def read(self) -> bytes:
        """What has been written, at most 64 KiB, once there is something; empty when everybody has closed the other
        end. One call at a time; it may be cancelled."""
        loop = asyncio.get_running_loop()
        readable: asyncio.Future[None] = loop.create_future()
        loop.add_reader(self._descriptor, _settle, readable)
        try:
            await readable
        finally:
            loop.remove_reader(self._descriptor)
        return os.read(self._descriptor, CHUNK)


def _settle(readable: "asyncio.Future[None]") -> None:
    if not readable.done():
        readable.set_result(None)
