"""Keeps Envoy's log of requests within its size, and finds the last and the slowest requests of an app in it."""

import asyncio
import heapq
import os
import re
from collections.abc import Awaitable, Callable, Iterator
from datetime import datetime
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError

from services.proxy.envoy.access_log import REQUEST_LOG, create_log
from shared.errors import Unavailable
from shared.models import View

PARTS = 4
BLOCK = 2**18
FLUSHED_S = 1.5  # Envoy writes what it has logged within a second
_FIRST_BYTE, _DURATION = re.compile(rb'"first_byte_ms":(\d+)'), re.compile(rb'"duration_ms":(\d+)')


class RequestOrder(StrEnum):
    NEWEST = "newest"
    SLOWEST = "slowest"


def _none_for_dash(flags: Any) -> Any:
    return None if flags == "-" else flags


class LoggedRequest(View):
    """Describes a request of a visitor that has ended. What Envoy does not know is null."""

    time: datetime = Field(description="Time at which it began.")
    route: str = Field(
        description="`<app>/<way>`. The way says how the track was chosen: `new` or `known` (by chance, known by the "
        "cookie), `always` or `never` (by the header `x-canary`), `production` or `canary` (by the port), `stable` (no "
        "rollout is open), or `page` (Envoy's own answer)."
    )
    method: str | None = None
    scheme: str | None = None
    host: str | None = None
    path: str | None = Field(None, description="Without its query, unless `SLIPWAY_REQUEST_LOG_QUERIES` is set.")
    status: int | None = Field(None, description="0: it ended before an answer began.")
    first_byte_ms: int | None = Field(
        None, description="Milliseconds from the arrival of the whole request to the beginning of the answer."
    )
    duration_ms: int = Field(description="Milliseconds from its beginning to the end of the answer.")
    received_bytes: int = Field(0, description="Size of the request's body.")
    sent_bytes: int = Field(0, description="Size of the answer's body.")
    client: str | None = Field(None, description="Address of the visitor.")
    user_agent: str | None = None
    request_id: str | None = Field(None, description="The app gets it as the header `x-request-id`.")
    instance: str | None = Field(None, description="The instance that Envoy tried last, `<release>-<number>`.")
    flags: Annotated[str | None, BeforeValidator(_none_for_dash)] = Field(
        None, description="How it failed, in Envoy's response flags; null if it did not."
    )
    details: str | None = Field(None, description="How it ended, in Envoy's words.")

    @property
    def waited_ms(self) -> int:
        """Returns the time until the answer began or, if none did, until the request ended."""
        return self.duration_ms if self.first_byte_ms is None else self.first_byte_ms


class VisitorLog:
    """Finds requests in Envoy's log in `folder`. Keeps the log and its three older parts within `longest` bytes in
    total; if `longest` is 0, removes them. `reopen` makes Envoy write to a new file.
    """

    def __init__(self, folder: Path, reopen: Callable[[], Awaitable[None]], longest: int) -> None:
        self._folder = folder
        self._paths = [folder / REQUEST_LOG, *(folder / f"{REQUEST_LOG}.{number}" for number in range(1, PARTS))]
        """The log and its older parts, newest first."""
        self._reopen = reopen
        self._longest = longest
        self._is_reopened = False
        """False: Envoy may write to an older part, because this service was killed while it renamed the log."""
        self._one_search = asyncio.Lock()
        self._one_change = asyncio.Lock()

    async def rotate(self) -> None:
        """Renames a log that has a fourth of the allowed size, and removes the oldest part. Raises OSError, and
        Unavailable if Envoy does not answer; another call then goes on.
        """
        async with self._one_change:
            await self._rotate(self._longest // PARTS)

    async def forget(self, app: str, *, wait_s: float = FLUSHED_S) -> None:
        """Removes the requests of an app whose route Envoy no longer has, from the log and its older parts. If the
        newest part has any, the oldest part is removed, too. First waits until Envoy has written what it had logged.
        Raises Unavailable if Envoy does not answer or a part cannot be written; another call then goes on.
        """
        await asyncio.sleep(wait_s)
        mark = _mark(app)
        async with self._one_change, self._one_search:
            try:
                if await asyncio.to_thread(_has_lines, self._paths[0], mark):
                    await self._rotate(0)
                for path in self._paths[1:]:
                    if await asyncio.to_thread(_has_lines, path, mark):
                        await asyncio.to_thread(_remove_lines, path, mark)
            except OSError as error:
                why = f"the requests of {app} cannot be removed from {self._paths[0]} ({error.strerror})"
                raise Unavailable(f"{why}; make room on the disk, or remove the log and its older parts") from error

    async def _rotate(self, longest: int) -> None:
        if not self._longest:
            for path in self._paths:
                path.unlink(missing_ok=True)
            return
        log = self._paths[0]
        if log.exists() and log.stat().st_size >= longest:
            for older, newer in zip(self._paths[:0:-1], self._paths[-2::-1], strict=True):
                if newer.exists():
                    newer.replace(older)
        if not log.exists():
            create_log(log)
            self._is_reopened = False
        if not self._is_reopened:
            await self._reopen()
            self._is_reopened = True

    async def find(self, app: str, order: RequestOrder, limit: int) -> list[LoggedRequest]:
        """Returns at most `limit` requests of the app. One search runs at a time, in a thread. Raises Unavailable if
        the log is switched off or cannot be read.
        """
        if not self._longest:
            raise Unavailable("the log of requests is switched off; set SLIPWAY_REQUEST_LOG_MB to a size above 0")
        async with self._one_search:
            search = self._newest if order is RequestOrder.NEWEST else self._slowest
            try:
                return await asyncio.to_thread(search, app, limit)
            except OSError as error:
                why = f"the log of requests {self._paths[0]} cannot be read ({error.strerror})"
                raise Unavailable(
                    f"{why}; give the platform's user the file, or remove it, and restart Envoy"
                ) from error

    def _newest(self, app: str, limit: int) -> list[LoggedRequest]:
        return list(islice(filter(None, map(_parsed, self._lines(app))), limit))

    def _slowest(self, app: str, limit: int) -> list[LoggedRequest]:
        keyed = ((_waited_ms(line), -number, line) for number, line in enumerate(self._lines(app)))
        return list(filter(None, (_parsed(line) for _, _, line in heapq.nlargest(limit, keyed))))

    def _lines(self, app: str) -> Iterator[bytes]:
        """Yields the lines of the app's requests, the last one first."""
        for path in self._paths:
            yield from _lines_backwards(path, _mark(app))


def _mark(app: str) -> bytes:
    return f'"route":"{app}/'.encode()  # within a text of a visitor, the quotes would have backslashes


def _has_lines(path: Path, mark: bytes) -> bool:
    return any(True for _ in _lines_backwards(path, mark))


def _remove_lines(path: Path, mark: bytes) -> None:
    """Removes the lines of the file that contain `mark`. An interrupted call changes nothing."""
    without = path.with_name(f".{path.name}.{os.getpid()}")  # if it is left behind, the service's next start removes it
    try:
        create_log(without)
        with path.open("rb") as lines, without.open("wb") as kept:
            kept.writelines(line for line in lines if mark not in line)
        without.replace(path)
    except OSError:
        without.unlink(missing_ok=True)
        raise


def _waited_ms(line: bytes) -> int:
    found = _FIRST_BYTE.search(line) or _DURATION.search(line)
    return int(found[1]) if found else 0


def _parsed(line: bytes) -> LoggedRequest | None:
    """Returns the request of the line; None if the line is broken, which a visitor can cause by bytes that are no
    text.
    """
    try:
        return LoggedRequest.model_validate_json(line)
    except ValidationError:
        return None


def _lines_backwards(path: Path, mark: bytes) -> Iterator[bytes]:
    """Yields the whole lines of the file that contain `mark`, the last one first. A missing file has none."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        position, rest = file.seek(0, os.SEEK_END), b""
        while position > 0:
            size = min(BLOCK, position)
            position -= size
            file.seek(position)
            block = file.read(size) + rest
            rest, _, whole = block.partition(b"\n") if position else (b"", b"", block)
            if mark in whole:
                yield from (line for line in reversed(whole.split(b"\n")) if mark in line)
            rest = rest if len(rest) < BLOCK else b""
