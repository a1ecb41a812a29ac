"""Reserves disk space for the proxy's own files, so that a canary can be aborted while the disk is full."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from shared.host.shortage import shortage
from shared.manifest import MIB

SPARE_BYTES = 4 * MIB


class SpareSpace:
    """Occupies `size_bytes` of the disk with the file `.spare` in `folder`, and deletes the file when a write finds the
    disk full.
    """

    def __init__(self, folder: Path, size_bytes: int = SPARE_BYTES) -> None:
        self._path = folder / ".spare"
        self._size_bytes = size_bytes

    def take(self) -> None:
        """Makes the file, unless it exists or the disk has too little space for it."""
        if self._path.exists():
            return
        try:
            with self._path.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, self._size_bytes)
        except OSError:
            with contextlib.suppress(OSError):
                self._path.unlink()

    def lend(self, write: Callable[[], object]) -> None:
        """Calls `write`, which must be repeatable after an error. If that fails because the disk is full, deletes the
        file and calls `write` again. Raises OSError.
        """
        try:
            write()
        except OSError as error:
            if shortage(error) is None or not self._path.exists():
                raise
            self._path.unlink()
            write()
