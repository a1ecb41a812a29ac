"""Probes against a real server."""

import asyncio
import http.server
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from services.deployer.reconcile.prober import Prober, ProbeTarget
from services.deployer.releases.environment import EnvironmentId
from shared.models import Environment
from tests.support.ports import free_port

pytestmark = pytest.mark.anyio
PRODUCTION = EnvironmentId("notes", Environment.PRODUCTION)


@pytest.fixture
def server() -> Iterator[str]:
    """`host:port` of a server that answers with the status that the path names."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(int(self.path[1:]))
            self.send_header("Location", "/200")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as serving:
        thread = threading.Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"127.0.0.1:{serving.server_port}"
        serving.shutdown()
        thread.join()


async def probed(target: ProbeTarget, until_misses: int) -> str:
    """The detail of the first probe with that many misses."""
    changed: list[EnvironmentId] = []
    prober = Prober(changed.append)
    prober.follow(PRODUCTION, {"notes-r1-1": target})
    try:
        async with asyncio.timeout(5):
            while "notes-r1-1" not in prober.health() or prober.health()["notes-r1-1"].misses != until_misses:
                await asyncio.sleep(0.01)
        assert until_misses in (1, 2) or changed == [PRODUCTION]
        return prober.health()["notes-r1-1"].detail
    finally:
        await prober.close()


@pytest.mark.parametrize("status", [200, 204])
async def test_any_2xx_is_well(server: str, status: int) -> None:
    assert await probed(ProbeTarget(server, f"/{status}", True), 0) == f"GET /{status} answered"


@pytest.mark.parametrize("status", [302, 404, 500])
async def test_any_other_status_is_a_miss(server: str, status: int) -> None:
    assert await probed(ProbeTarget(server, f"/{status}", True), 3) == f"GET /{status} answered {status}"


async def test_nobody_there_is_a_miss() -> None:
    detail = await probed(ProbeTarget(f"127.0.0.1:{free_port()}", "/up", True), 1)
    assert "ConnectError" in detail


async def test_who_is_not_followed_any_more_has_no_health(server: str) -> None:
    prober = Prober(lambda environment_id: None)
    prober.follow(PRODUCTION, {"notes-r1-1": ProbeTarget(server, "/200", True)})
    async with asyncio.timeout(5):
        while not prober.health():
            await asyncio.sleep(0.01)
    prober.follow(PRODUCTION, {})
    assert prober.health() == {}
    await prober.close()


@pytest.mark.slow
async def test_tries_keep_their_rate_however_long_an_answer_takes() -> None:
    """Nobody answers here: three tries that begin 0.9 s apart, and not 0.9 s after each other."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        detail = await probed(ProbeTarget(f"127.0.0.1:{silent.getsockname()[1]}", "/up", False), 3)
        assert 2.6 <= time.monotonic() - started <= 3.1
    assert detail == "GET /up: no answer within 0.9 s"
