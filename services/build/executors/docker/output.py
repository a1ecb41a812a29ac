"""What a container prints: from the engine's stream of frames to the event loop."""

import asyncio
from collections.abc import Callable
from typing import Any

from docker.utils import socket as engine_socket

from services.build.executors.executor import Output

CHUNK = 64 * 1024
HEAD = 8  # bytes before each frame: one for the stream, three of nothing, four for the length


class Frames:
    """The engine's stream, cut anywhere, in; what stands in its frames out."""

    def __init__(self) -> None:
        self._head = b""
        self._left = 0

    def feed(self, data: bytes) -> bytes:
        found, at = [], 0
        while at < len(data):
            if self._left:
                part = data[at : at + self._left]
                found.append(part)
                self._left -= len(part)
                at += len(part)
            else:
                missing = HEAD - len(self._head)
                self._head += data[at : at + missing]
                at += missing
                if len(self._head) == HEAD:
                    self._left, self._head = int.from_bytes(self._head[4:]), b""
        return b"".join(found)


def told_in(loop: asyncio.AbstractEventLoop, output: Output) -> Callable[[bytes], None]:
    """`output`, for threads: returns when it has been called. So what is printed faster than it is told waits in the
    container, not in this process, and the loop has its turns."""

    async def tell(data: bytes) -> None:
        output(data)

    return lambda data: asyncio.run_coroutine_threadsafe(tell(data), loop).result()


def read_to_end(attached: Any, say: Callable[[bytes], None]) -> None:
    """`attached` is what `attach_socket` gave, of a container without a terminal. As much is read at once as there is:
    the package's own stream reads a frame, which may be one line, in two calls. Blocks."""
    frames = Frames()
    while (data := engine_socket.read(attached, CHUNK)) != b"":
        if printed := frames.feed(data or b""):
            say(printed)
