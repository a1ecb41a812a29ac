"""Reads what Envoy appends to its access log, and rotates the file when it has become long."""

import contextlib
import logging
import os
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

from services.proxy.envoy.access_log import ACCESS_LOG, create_access_log
from shared.errors import Unavailable

log = logging.getLogger(__name__)

SLICE = 2**16
LONGEST_LINE = 2**16
LONGEST = 32 * 2**20
REMEDY = "give the platform's user the file, or remove it, and restart Envoy"


class AccessLogReader:
    """Reads the lines that Envoy appends to its access log in `folder` (`<home>/envoy`) after this object was made.
    Renames a log of more than `longest` bytes, and calls `reopen`, which makes Envoy write to a new one; no line is
    lost or read twice because of that. Also goes on after the log was removed or emptied.
    """

    def __init__(self, folder: Path, reopen: Callable[[], Awaitable[None]], *, longest: int = LONGEST) -> None:
        self._folder = folder
        self._path = folder / ACCESS_LOG
        self._old = folder / f"{ACCESS_LOG}.1"
        self._reopen = reopen
        self._longest = longest
        self._position = 0
        self._half = ""
        """The beginning of a line whose end is not written yet."""
        self._is_reopened = False
        """False while Envoy may still write to a renamed log, as after this service was killed during a rotation."""
        self._file: int | None = None
        """The descriptor of the log that is read."""
        self._close: Callable[[], object] = lambda: None
        with contextlib.suppress(OSError):  # reading reports what is wrong
            self._position = _end_of_lines(self._open())

    @property
    def waiting(self) -> int:
        """Returns approximately how many bytes of the access log have not been read yet."""
        try:
            rest = 0 if self._file is None else os.fstat(self._file).st_size - self._position
            return max(0, rest) + (self._path.stat().st_size if self._is_replaced() else 0)
        except OSError:
            return 0

    async def slices(self) -> AsyncIterator[list[str]]:
        """Yields the lines of the access log that have not been read yet, in lists of some hundreds. Then rotates the
        log if it is too long. Raises Unavailable if the log cannot be read, or if Envoy has to open a new one but does
        not answer.
        """
        try:
            is_replaced = self._is_replaced()  # asked first: from then on, Envoy writes no more to the old one
            for lines in self._rest():
                yield lines
            if is_replaced:
                self._open()
                for lines in self._rest():
                    yield lines
            if self._position > self._longest and self._is_at_path():
                self._path.replace(self._old)
            if not self._path.exists():
                create_access_log(self._folder)
                self._is_reopened = False
        except OSError as error:
            why = error.strerror or type(error).__name__
            raise Unavailable(f"Envoy's access log {self._path} cannot be read ({why}); {REMEDY}") from error
        if not self._is_reopened:
            await self._reopen()
            self._old.unlink(missing_ok=True)  # what Envoy still writes to it is read from the open file
            self._is_reopened = True

    def _open(self) -> int:
        file = os.open(self._path, os.O_RDONLY)
        self._close()
        self._close = weakref.finalize(self, os.close, file)
        self._file, self._position, self._half = file, 0, ""
        return file

    def _is_replaced(self) -> bool:
        """Returns True if the log's path now names a newer file than the one that is being read, and Envoy has begun to
        write to it; also if no file could be opened before.
        """
        if not self._path.exists() or self._is_at_path():
            return False
        return self._file is None or self._path.stat().st_size > 0

    def _is_at_path(self) -> bool:
        try:
            return self._file is not None and os.path.samestat(os.fstat(self._file), self._path.stat())
        except FileNotFoundError:
            return False

    def _rest(self) -> Iterator[list[str]]:
        if self._file is None:
            return
        end = os.fstat(self._file).st_size
        if end < self._position:
            log.warning("%s was emptied; lines that were not read before are lost", self._path)
            self._position, self._half = 0, ""
        while self._position < end:
            part = os.pread(self._file, min(SLICE, end - self._position), self._position)
            if not part:
                return
            self._position += len(part)
            lines = (self._half + part.decode("latin-1")).split("\n")
            rest = lines.pop()
            self._half = rest if len(rest) < LONGEST_LINE else ""
            yield lines


def _end_of_lines(file: int) -> int:
    """Returns the position after the last whole line of the open file with this descriptor."""
    size = os.fstat(file).st_size
    tail = os.pread(file, LONGEST_LINE, max(0, size - LONGEST_LINE))
    return size - len(tail) + tail.rfind(b"\n") + 1
