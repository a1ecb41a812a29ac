"""Stores the logs of builds, one file each, and lets clients follow a log while it grows."""

import asyncio
import contextlib
import logging
import os
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

from services.build.logs.line_splitter import LONGEST, LineSplitter, cleaned
from services.build.system.raw_file import write_all
from shared.host.shortage import shortage
from shared.security.mask import Mask

log = logging.getLogger(__name__)

LARGEST_BYTES = 20 * 2**20
CHUNK = 64 * 1024
LOOK_AGAIN_S = 1.0
GATHER_S = 0.02
TAIL = 2**18  # bytes at the end of a log; characters that a channel remembers
MISSING = "\n... lines are missing here: the disk was full\n"


class BuildLog:
    """Appends to one build's log. Once the log exceeds `largest_bytes`, output of steps is dropped, while messages of
    the platform are still written. `changed` is called after each write. Lines for which the disk has no room are left
    out, which the log says as soon as it can; a build does not end because of its log.
    """

    def __init__(self, path: Path, changed: Callable[[], None], largest_bytes: int = LARGEST_BYTES) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._changed = changed
        self._largest_bytes = largest_bytes
        self._mask = Mask()
        self._own = Channel(self, self._mask)
        self.has_lost_lines = False
        """True if the disk had no room for a line."""
        self._misses_lines = False
        self._file = path.open("ab", buffering=0)
        self._lines = sum(chunk.count(b"\n") for chunk in _chunks(path))

    def hide(self, mask: Mask) -> None:
        """Masks secrets with `mask` in everything that is written from now on."""
        self.flush()
        self._mask, self._own = mask, Channel(self, mask)

    @property
    def size(self) -> int:
        return self._file.tell()

    @property
    def lines(self) -> int:
        """Returns the number of lines in the file; an unfinished line does not count."""
        return self._lines

    def say(self, line: str) -> None:
        """Writes a message of the platform, of one or several lines; an unfinished line of a step's output is ended
        first. Terminal escapes are dropped, because the message may quote text of others. Each line is cut to 4000
        characters.
        """
        self.flush()
        self._append("".join(f"{cleaned(self._mask(part))[:LONGEST]}\n" for part in line.split("\n")))

    def output(self, data: bytes) -> None:
        """Takes bytes that a step has printed, in pieces of any size, and writes those lines that are complete.
        Parallel steps need a `channel` each.
        """
        self._own.output(data)

    def flush(self) -> None:
        """Writes the unfinished last line of a step's output, if there is one, as a line of its own."""
        self._own.flush()

    def channel(self, prefix: str = "") -> "Channel":
        """Returns a channel for the output of one step. Each of its lines begins with `prefix`."""
        return Channel(self, self._mask, self._mask(prefix))

    @property
    def full(self) -> bool:
        return self.size >= self._largest_bytes

    def write(self, lines: list[str]) -> None:
        """Writes whole lines that a step has printed. If they make the log full, also writes that later output is left
        out.
        """
        self._append("\n".join([*lines, ""]))
        if self.full:
            self._append(
                f"... the log has reached {self._largest_bytes // 2**20} MB; the rest of the output is left out\n"
            )

    def tail(self, start: int) -> list[str]:
        """Returns the lines from byte `start` on; if they exceed 256 KiB, only the last 256 KiB."""
        self.flush()
        with self._path.open("rb") as file:
            file.seek(max(start, self.size - TAIL))
            return file.read().decode(errors="replace").splitlines()

    def close(self) -> None:
        self.flush()
        self._file.close()

    def _append(self, text: str) -> None:
        text = MISSING + text if self._misses_lines else text
        try:
            write_all(self._file, text.encode())
        except OSError as error:
            if shortage(error) is None:
                raise
            self.has_lost_lines = self._misses_lines = True
            return
        self._misses_lines = False
        self._lines += text.count("\n")
        self._changed()


class Channel:
    """Writes the output of one step to the build's log in whole lines, so that lines of parallel steps do not mix.
    Remembers the last lines for the excerpt that the build's page shows after a failure.
    """

    def __init__(self, log: BuildLog, mask: Mask, prefix: str = "") -> None:
        self._log = log
        self._prefix = prefix
        self._splitter = LineSplitter(mask)
        self._kept: deque[list[str]] = deque()
        self._kept_size = 0

    def output(self, data: bytes) -> None:
        """Takes bytes that the step has printed, in pieces of any size, and writes those lines that are complete."""
        if not self._log.full:
            self._write(self._splitter.feed(data))
        if self._log.full:
            self._splitter.end()  # drops the unfinished line, of which only a part of a secret might be masked

    def say(self, line: str) -> None:
        """Writes a message of the platform to the log, without the prefix of the step's lines."""
        self.flush()
        self._log.say(line)

    def flush(self) -> None:
        """Writes the unfinished last line of a step's output, if there is one, as a line of its own."""
        lines = self._splitter.end()
        if not self._log.full:
            self._write(lines)

    def forget(self) -> None:
        """Forgets the lines remembered so far, so that `tail` begins with the next one."""
        self.flush()
        self._kept.clear()
        self._kept_size = 0

    def tail(self) -> list[str]:
        """Returns the lines written to this channel, at most the last 256 Ki characters."""
        self.flush()
        return [line for lines in self._kept for line in lines]

    def _write(self, lines: list[str]) -> None:
        if not lines:
            return
        self._log.write([f"{self._prefix}{line}" for line in lines] if self._prefix else lines)
        self._kept.append(lines)
        self._kept_size += _size(lines)
        while self._kept_size > TAIL:
            self._kept_size -= _size(self._kept.popleft())


class BuildLogs:
    """Opens, reads and follows the log files `<folder>/<build>.log`. A write to a log wakes its followers, the clients
    that read it while it grows.
    """

    def __init__(self, folder: Path, *, largest_bytes: int = LARGEST_BYTES) -> None:
        self.folder = folder
        self._largest_bytes = largest_bytes
        self._followers: dict[str, set[asyncio.Event]] = defaultdict(set)
        self._closed = False

    def path(self, build: str) -> Path:
        return self.folder / f"{build}.log"

    @contextlib.contextmanager
    def open(self, build: str) -> Iterator[BuildLog]:
        build_log = BuildLog(self.path(build), lambda: self.wake(build), self._largest_bytes)
        try:
            yield build_log
        finally:
            build_log.close()

    def say(self, build: str, line: str) -> None:
        """Appends a message of the platform to the log of the build with the id `build`. If the machine is short of
        something, such as room on the disk, the message goes to the service's own log.
        """
        try:
            with self.open(build) as build_log:
                build_log.say(line)
        except OSError as error:
            if (problem := shortage(error)) is None:
                raise
            log.error("%s is not in the log of %s: %s", line, build, problem.detail)

    def wake(self, build: str) -> None:
        for event in self._followers.get(build, ()):
            event.set()

    def close(self) -> None:
        """Ends all followers. The service calls it when it ends."""
        self._closed = True
        for build in list(self._followers):
            self.wake(build)

    def size(self, build: str) -> int:
        path = self.path(build)
        return path.stat().st_size if path.exists() else 0

    def read(self, build: str, start: int, limit: int = CHUNK) -> bytes:
        """Returns at most `limit` bytes (-1: all) from byte `start` on; empty bytes if there is no log."""
        try:
            with self.path(build).open("rb") as file:
                file.seek(min(start, os.fstat(file.fileno()).st_size))  # no file can be positioned at any number
                return file.read(limit)
        except FileNotFoundError:
            return b""

    async def follow(self, build: str, ended: Callable[[], Awaitable[bool]], start: int = 0) -> AsyncIterator[bytes]:
        """Yields whole lines from byte `start` on as they are written, gathered for 20 ms. Yields b"" whenever all
        lines were yielded and the build's state may have changed. `ended` returns True once the build has ended. Stops
        once it has ended and all lines were yielded, or when the service ends.
        """
        woken, loop = asyncio.Event(), asyncio.get_running_loop()
        self._followers[build].add(woken)
        try:
            while True:
                looked_at = loop.time()
                woken.clear()
                over = await ended()
                while lines := whole_lines(self.read(build, start)):
                    start += len(lines)
                    yield lines
                if over or self._closed:
                    return
                yield b""
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(woken.wait(), LOOK_AGAIN_S)
                await asyncio.sleep(looked_at + GATHER_S - loop.time())
        finally:
            self._followers[build].discard(woken)
            if not self._followers[build]:
                del self._followers[build]


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk


def _size(lines: list[str]) -> int:
    return sum(map(len, lines)) + len(lines)


def whole_lines(data: bytes) -> bytes:
    """Returns the data up to and including its last line feed."""
    return data[: data.rfind(b"\n") + 1]
