"""Sends requests of new visitors at a constant rate from a thread, and records when which status was answered."""

import asyncio
import threading
import time
from types import TracebackType

from stack.clients.connection import Connection, Lost, request_bytes

RATE = 60.0


class NewVisitors:
    """Sends GET / on a new connection without a cookie, 60 times a second, until the block ends."""

    def __init__(self, url: str, host: str) -> None:
        self._url = url
        self._request = request_bytes("GET", "/", host)
        self._answers: list[tuple[float, int]] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="visitors", daemon=True)

    def __enter__(self) -> "NewVisitors":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def moments(self, status: int) -> list[float]:
        """Returns when the requests were sent that got this status, in seconds, ascending; 0 stands for no answer."""
        return sorted(moment for moment, answered in self._answers if answered == status)

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as visits:
            due = time.monotonic()
            while not self._ended.is_set():
                visits.create_task(self._visit())
                due += 1 / RATE
                await asyncio.sleep(max(0.0, due - time.monotonic()))

    async def _visit(self) -> None:
        moment, status = time.monotonic(), 0
        try:
            connection = await Connection.open(self._url)
            try:
                status = (await connection.request(self._request, 10.0)).status
            finally:
                connection.close()
        except Lost:
            pass
        self._answers.append((moment, status))
