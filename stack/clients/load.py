"""Sends requests at a constant rate and records the outcome of each.
Usage: `python -m stack.clients.load --url … --rate 200 --seconds 10`

The app must be examples/notes, since the requests go to GET /version, POST /echo and sometimes /slow. Each request is
sent when it is due, even if earlier ones have no answer yet (an open load).

No request is sent twice. Only if the server closed a kept-alive connection before a byte of the next request was sent,
that request goes over a new connection, as with every HTTP client.
"""

import argparse
import asyncio
import itertools
import json
import random
import sys
import threading
import time
from types import TracebackType
from urllib.parse import urlsplit

from stack.clients.connection import Connection, Lost, Response, request_bytes
from stack.clients.load_report import Report, Result, report

SLOW_SHARE = 0.03
ECHO_SHARE = 0.2
FRESH_SHARE = 0.25  # share of requests from new visitors: a connection of their own, no cookie
MAX_IN_FLIGHT = 2_000
TIMEOUT_S = 10.0


class Client:
    """Represents a visitor, with a kept-alive connection and the cookie of the last answer that set one."""

    def __init__(self, url: str, host: str) -> None:
        self._url = url
        self._host = host
        self._cookie = ""
        self._connection: Connection | None = None

    @property
    def is_open(self) -> bool:
        """Returns True if the next request can use the connection of the last one."""
        return self._connection is not None and not self._connection.closed

    async def request(self, method: str, path: str, body: bytes = b"") -> Response:
        """Sends the request and returns its answer. Raises Lost if there is no complete answer."""
        if self._connection is None or not self.is_open:
            self._connection = await Connection.open(self._url)
        headers = {"cookie": self._cookie} if self._cookie else {}
        sent = request_bytes(method, path, self._host, body, headers)
        response = await self._connection.request(sent, TIMEOUT_S)
        if "set-cookie" in response.headers:
            self._cookie = response.headers["set-cookie"].partition(";")[0]
        return response

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()


class Load:
    """Sends requests in a thread (`with Load(url) as load: …`) until the block ends, or for `limit_s` seconds.

    `host` is the Host header, for a port that several apps share. `rate` is in requests per second; `slow_share` (0 to
    1) is the share of requests to /slow.
    """

    def __init__(
        self,
        url: str,
        *,
        rate: float = 200.0,
        host: str = "",
        limit_s: float = 600.0,
        slow_share: float = SLOW_SHARE,
    ) -> None:
        self._url = url
        self._host = host or urlsplit(url).netloc
        self._rate = rate
        self._limit_s = limit_s
        self._slow_share = slow_share
        self._results: list[Result] = []
        self._idle: list[Client] = []
        self._random = random.Random(0)
        self._started = 0.0
        self._ended = 0.0
        self._cpu_s = 0.0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="load", daemon=True)

    def __enter__(self) -> "Load":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        self._started = time.monotonic()
        self._thread.start()

    def stop(self) -> None:
        """Stops sending, and waits for the answers to requests that were sent. Idempotent."""
        self._stopping.set()
        self._thread.join()

    def now(self) -> float:
        """Returns the seconds since the load's start, from which all times in the results are counted."""
        return time.monotonic() - self._started

    @property
    def results(self) -> list[Result]:
        """Returns the results of finished requests, in the order in which they finished."""
        return self._results.copy()

    @property
    def cpu_share(self) -> float:
        """Returns the CPU time of the sending thread divided by the duration of the load; 0 until `stop` was called."""
        return self._cpu_s / self._ended if self._ended else 0.0

    def report(self, since: float = 0.0, until: float | None = None) -> Report:
        """Returns a report on the requests that were due from `since` until `until` (in seconds since the load's start;
        None stands for now).
        """
        if until is None:
            until = self._ended or self.now()
        return report(self.results, since, until)

    async def _run(self) -> None:
        in_flight: set[asyncio.Task[None]] = set()
        for number in itertools.count():
            due = number / self._rate
            wait_s = due - self.now()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            if self._stopping.is_set() or due >= self._limit_s:
                break
            if len(in_flight) >= MAX_IN_FLIGHT:
                why = f"not sent: {MAX_IN_FLIGHT} requests wait for their answers already"
                self._results.append(Result(due, self.now(), quick=False, lost=why))
                continue
            task = asyncio.create_task(self._send(due))
            in_flight.add(task)
            task.add_done_callback(in_flight.discard)
        self._ended = self.now()
        await asyncio.gather(*in_flight)
        for client in self._idle:
            client.close()
        self._cpu_s = time.thread_time()

    async def _send(self, due: float) -> None:
        slow = self._random.random() < self._slow_share
        echo = not slow and self._random.random() < ECHO_SHARE
        fresh = self._random.random() < FRESH_SHARE
        client = self._idle.pop() if self._idle and not fresh else Client(self._url, self._host)
        body = self._random.randbytes(self._random.randrange(2_000)) if echo else b""
        response, commit, lost = Response(), "", ""
        try:
            if slow:
                response = await client.request("GET", "/slow?seconds=1")
            elif echo:
                response = await client.request("POST", "/echo", body)
            else:
                response = await client.request("GET", "/version")
            if not 200 <= response.status < 300:
                lost = f"status {response.status}"
            elif echo and response.body != body:
                lost = "another body than the one that was sent"
            elif not slow and not echo:
                commit = _commit(response.body)
        except Lost as error:
            lost = str(error)
        track = response.headers.get("x-slipway-track", "")
        self._results.append(Result(due, self.now(), not slow, response.status, track, commit, lost))
        if fresh:
            client.close()
        else:
            self._idle.append(client)


def _commit(body: bytes) -> str:
    """Returns the commit that the body of /version names. Raises Lost if it names none."""
    try:
        return str(json.loads(body)["commit"])
    except (ValueError, KeyError, TypeError):
        raise Lost(f"/version is not what it should be: {body[:40]!r}") from None


def main() -> int:
    """Runs a load from the command line. Returns 0 if no request was lost."""
    parser = argparse.ArgumentParser(prog="python -m stack.clients.load", description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:3456")
    parser.add_argument("--host", default="", help="Host header, <app>.localhost: Envoy finds the app by it")
    parser.add_argument("--rate", type=float, default=200, help="requests a second")
    parser.add_argument("--seconds", type=float, default=10)
    options = parser.parse_args()
    with Load(options.url, rate=options.rate, host=options.host, limit_s=options.seconds) as load:
        time.sleep(options.seconds)
    summary = load.report()
    print("\n".join([*summary.lines(), f"this client took {load.cpu_share:.0%} of a core"]))
    return 1 if summary.lost else 0


if __name__ == "__main__":
    sys.exit(main())
