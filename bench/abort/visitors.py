"""Sends visitors to an app at a constant rate, each with one request without a cookie, and records what each saw."""

import asyncio
import threading
import time
from dataclasses import dataclass

from stack.clients.connection import Connection, Lost, request_bytes

LEAVES_AFTER_S = 5.0


@dataclass(frozen=True, slots=True)
class Visit:
    """Holds what one visitor saw; times are from `time.monotonic()`. A visitor without a whole answer came to the
    canary, if production always answers.
    """

    sent: float
    done: float
    by_canary: bool
    good: bool

    @property
    def at(self) -> float:
        """Returns when the visitor saw it; of one who left without an answer, when the visitor came."""
        return self.sent if self.done - self.sent >= LEAVES_AFTER_S else self.done


class Visitors:
    """Sends requests in a thread until the block ends. An answer is bad if it is no whole 200, or takes `slow_s`."""

    def __init__(self, url: str, host: str, *, rate: float, slow_s: float = 60.0) -> None:
        self._url = url
        self._request = request_bytes("GET", "/", host)
        self._rate = rate
        self._slow_s = slow_s
        self._visits: list[Visit] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    def __enter__(self) -> "Visitors":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    @property
    def visits(self) -> list[Visit]:
        """Returns the visits that have ended."""
        return self._visits.copy()

    async def _run(self) -> None:
        started, number = time.monotonic(), 0
        async with asyncio.TaskGroup() as visits:
            while not self._stopping.is_set():
                visits.create_task(self._visit())
                number += 1
                await asyncio.sleep(max(0.0, started + number / self._rate - time.monotonic()))

    async def _visit(self) -> None:
        sent = time.monotonic()
        try:
            connection = await Connection.open(self._url)
            try:
                answer = await connection.request(self._request, LEAVES_AFTER_S)
            finally:
                connection.close()
        except Lost:
            self._visits.append(Visit(sent, time.monotonic(), by_canary=True, good=False))
            return
        done = time.monotonic()
        is_good = answer.status == 200 and done - sent < self._slow_s
        by_canary = answer.headers.get("x-slipway-track") == "canary"
        self._visits.append(Visit(sent, done, by_canary, is_good))
