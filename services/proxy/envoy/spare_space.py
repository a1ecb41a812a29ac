"""Keeps some of the disk for the proxy's own files, so that a canary can be aborted while the disk is full."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from shared.host.shortage import shortage
from shared.manifest import MIB

SPARE_BYTES = 4 * MIB


class SpareSpace:
    """A file in `folder` that takes space, and gives it back to a write for which the disk has no room."""

    def __init__(self, folder: Path, size_bytes: int = SPARE_BYTES) -> None:
        self._path = folder / ".spare"
        self._size_bytes = size_bytes

    def take(self) -> None:
        """Takes the space, unless it is taken already or the disk does not have it."""
        if self._path.exists():
            return
        try:
            with self._path.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, self._size_bytes)
        except OSError:
            with contextlib.suppress(OSError):
                self._path.unlink()

    def lend(self, write: Callable[[], object]) -> None:
        """Calls `write`, which may be repeated after an error. If the disk has no room, gives the space back and calls
        it again. Raises OSError.
        """
        try:
            write()
        except OSError as error:
            if shortage(error) is None or not self._path.exists():
                raise
            self._path.unlink()
            write()
