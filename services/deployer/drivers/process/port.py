"""Picks TCP ports for instances that run as processes."""

import contextlib
import random
import socket
from collections.abc import Collection
from pathlib import Path

FIRST, LAST = 20_000, 29_999


class NoPort(OSError):
    """Raised if all ports of the range are taken."""


class PortPicker:
    """Picks ports round-robin, so that a freed port is reused as late as possible: a stale endpoint must not lead an
    app's visitors to another app. The file `position` remembers the last port across restarts; without it, the start is
    random.
    """

    def __init__(self, position: Path) -> None:
        self._position = position

    def pick(self, taken: Collection[int]) -> int:
        """Returns a port that is not `taken` and can be bound. Raises NoPort, or OSError from writing `position`."""
        for _ in range(LAST - FIRST + 1):
            port = self._next()
            if port not in taken and is_free(port):
                return port
        raise NoPort(f"no TCP port from {FIRST} to {LAST} is free; end something that uses them")

    def _next(self) -> int:
        port = random.randint(FIRST, LAST)
        with contextlib.suppress(FileNotFoundError, ValueError):
            port = int(self._position.read_text()) + 1
        port = port if FIRST <= port <= LAST else FIRST
        self._position.write_text(str(port))
        return port


def is_free(port: int) -> bool:
    """Returns True if the port can be bound on every address, which is the strictest test."""
    with socket.socket() as probe:
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True
