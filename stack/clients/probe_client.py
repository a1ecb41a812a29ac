"""Sends requests to an app from outside: waits until it serves a commit, and acts as many new visitors."""

import asyncio
import http.client
import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from stack.clients.connection import Connection, Lost, request_bytes

LOOK_EVERY_S, SELDOM_S = 0.01, 0.1
LATE_SHARE = 0.02  # of the time waited, by which a wait may end late: each check costs CPU time of what is checked
PAUSES_PER_LOOK = 4  # a slow check is made less often, because it would slow down what it waits for


@dataclass
class ProbeAnswer:
    """Holds the answer to a request. The status 0 means that there was no answer."""

    status: int = 0
    track: str = ""
    body: str = ""

    @property
    def commit(self) -> str:
        """Returns the commit that the body of /version names; empty if it names none."""
        try:
            return str(json.loads(self.body)["commit"])
        except (ValueError, KeyError, TypeError):
            return ""


def probe(url: str, path: str, host: str = "") -> ProbeAnswer:
    """Sends a GET on a new connection without a cookie, and returns the answer. `host` is the Host header, for a port
    that several apps share.
    """
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=5)
    try:
        connection.request("GET", path, headers={"Host": host or address.netloc})
        answer = connection.getresponse()
        return ProbeAnswer(
            answer.status, answer.headers.get("x-slipway-track", ""), answer.read().decode(errors="replace")
        )
    except (OSError, http.client.HTTPException):
        return ProbeAnswer()
    finally:
        connection.close()


def wait_for(condition: Callable[[], bool], what: str, timeout_s: float) -> float:
    """Calls `condition` until it returns True, and returns the seconds waited. Raises TimeoutError, whose message says
    that `what` was expected. Between two calls it pauses for 10 ms, and later for a fiftieth of the time waited, up to
    0.1 s; but for at least four times as long as the last call took.
    """
    started = looked_at = time.monotonic()
    while not condition():
        now = time.monotonic()
        if now - started > timeout_s:
            raise TimeoutError(f"{what}: not within {timeout_s:g} s")
        pause_s = min(SELDOM_S, max(LOOK_EVERY_S, LATE_SHARE * (now - started)))
        time.sleep(max(pause_s, PAUSES_PER_LOOK * (now - looked_at)))
        looked_at = time.monotonic()
    return time.monotonic() - started


def wait_for_commit(url: str, commit: str, *, host: str = "", timeout_s: float = 60.0) -> float:
    """Waits until the app at `url` answers with `commit`, and returns the seconds waited. Raises TimeoutError."""
    return wait_for(lambda: probe(url, "/version", host).commit == commit, f"{commit[:8]} on {url}", timeout_s)


def tracks_of_new_visitors(url: str, count: int, *, host: str = "", concurrency: int = 32) -> Counter[str]:
    """Sends `count` requests without a cookie; returns track → number of requests that it answered. The key `lost`
    counts failures and answers other than 200.
    """
    return asyncio.run(_crowd(url, count, host or urlsplit(url).netloc, concurrency))


async def _crowd(url: str, count: int, host: str, concurrency: int) -> Counter[str]:
    seen: Counter[str] = Counter()
    waiting = iter(range(count))
    request = request_bytes("GET", "/version", host)

    async def visit() -> None:
        connection: Connection | None = None
        for _ in waiting:
            try:
                if connection is None or connection.closed:
                    connection = await Connection.open(url)
                response = await connection.request(request)
                seen[response.headers.get("x-slipway-track", "") if response.status == 200 else "lost"] += 1
            except Lost:
                seen["lost"] += 1
        if connection is not None:
            connection.close()

    async with asyncio.TaskGroup() as visitors:
        for _ in range(concurrency):
            visitors.create_task(visit())
    return seen
