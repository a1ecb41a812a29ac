"""A closed load for measuring throughput: N kept-alive connections, each of which sends when it has its answer.

uvloop and httptools in one process have reached 73 000 requests/s; figures near that are the limit of this client.
"""

import asyncio
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

import httptools
import uvloop

from stack.clients.connection import request_bytes


@dataclass
class Throughput:
    """Requests a second, latencies in ms; `failed`: answers other than 200, and connections that ended."""

    rate: float
    p50_ms: float
    p99_ms: float
    failed: int


def measure_throughput(url: str, *, host: str = "", connections: int = 32, seconds: float = 3.0) -> Throughput:
    """Measures GET / for `seconds`, after a warm-up of half a second. Raises OSError without a connection, RuntimeError
    without a single good answer.
    """
    return uvloop.run(_measure(url, host or urlsplit(url).netloc, connections, seconds))


async def _measure(url: str, host: str, connections: int, seconds: float) -> Throughput:
    address = urlsplit(url)
    request = request_bytes("GET", "/", host)
    loop = asyncio.get_running_loop()
    workers: list[_Worker] = []
    for _ in range(connections):
        _, worker = await loop.create_connection(
            lambda: _Worker(request), address.hostname or "127.0.0.1", address.port or 80
        )
        workers.append(worker)
    await asyncio.sleep(0.5)
    for worker in workers:
        worker.latencies.clear()
    started = time.perf_counter()
    await asyncio.sleep(seconds)
    took = time.perf_counter() - started
    ordered = sorted(latency for worker in workers for latency in worker.latencies)
    failed = sum(worker.failed for worker in workers)
    for worker in workers:
        worker.close()
    if not ordered:
        raise RuntimeError(f"{url} gave no good answer, {failed} bad ones")
    p50, p99 = (ordered[int(len(ordered) * share)] * 1000 for share in (0.5, 0.99))
    return Throughput(len(ordered) / took, p50, p99, failed)


class _Worker(asyncio.Protocol):
    def __init__(self, request: bytes) -> None:
        self.latencies: list[float] = []
        self.failed = 0
        self._request = request
        self._parser = httptools.HttpResponseParser(self)
        self._closing = False

    def close(self) -> None:
        self._closing = True
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]  # uvloop's is no subclass
        self._send()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        if self._parser.get_status_code() == 200:
            self.latencies.append(time.perf_counter() - self._sent)
        else:
            self.failed += 1
        self._send()

    def connection_lost(self, error: Exception | None) -> None:
        self.failed += not self._closing

    def _send(self) -> None:
        self._sent = time.perf_counter()
        self._transport.write(self._request)
