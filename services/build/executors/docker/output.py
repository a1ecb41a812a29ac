"""Passes the output of a container to the event loop of the service."""

import asyncio
from collections.abc import Callable
from typing import Any

from docker.utils import socket as engine_socket

from services.build.system.pipe import Output

CHUNK = 64 * 1024
HEAD = 8  # bytes before each frame: stream number, three zeros, length in four bytes


class Frames:
    """Extracts the printed bytes from the engine's attach stream, in which a header precedes each frame. `feed` takes
    the stream in pieces of any size and returns the bytes that they complete.
    """

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


def threadsafe(loop: asyncio.AbstractEventLoop, output: Output) -> Callable[[bytes], None]:
    """Returns a function for use in threads. It calls `output` in the event loop and waits until that call is done.
    This slows a container that prints faster than `output` takes, so that its output does not pile up in this process.
    """

    async def tell(data: bytes) -> None:
        output(data)

    return lambda data: asyncio.run_coroutine_threadsafe(tell(data), loop).result()


def read_to_end(attached: Any, say: Callable[[bytes], None]) -> None:
    """Reads a container's output until its end and passes it to `say`, up to 64 KiB at a time. `attached` is the result
    of `attach_socket`. Blocks.
    """
    frames = Frames()
    while (data := engine_socket.read(attached, CHUNK)) != b"":
        if printed := frames.feed(data or b""):
            say(printed)
