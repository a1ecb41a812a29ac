"""Envoy's health check: it occupies no ports, and no app that serves one connection at a time."""

import asyncio
import http.server
import threading
from collections.abc import AsyncIterator, Iterator

import httpx
import psutil
import pytest

from tests.support.proxy.proxy_stack import App, Stack

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
CHECKS = 4


@pytest.fixture
async def stack(stack: Stack) -> AsyncIterator[Stack]:
    """The proxy service runs too."""
    async with stack.service():
        yield stack


class OneAtATime(App):
    """Closes each connection after its answer, as Python's simple server does. `checks` counts requests."""

    def __init__(self) -> None:
        self.name = "simple"
        self.checks = 0
        app = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                app.checks += 1
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None: ...

        self._server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        self.address = f"127.0.0.1:{self.port}"
        self._running = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._running.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._running.join()


@pytest.fixture
def simple() -> Iterator[OneAtATime]:
    app = OneAtATime()
    yield app
    app.close()


def connections_to(port: int, status: str) -> int:
    """Connections to the app in that state, as seen from their other end."""
    connections = [each for each in psutil.net_connections("tcp") if each.status == status]
    return sum(each.raddr.port == port for each in connections if each.raddr)


async def test_checks_leave_no_port_occupied_and_an_app_without_kept_connections_is_checked_too(
    stack: Stack, simple: OneAtATime
) -> None:
    kept = stack.app("stable")
    await stack.put(kept)
    await stack.sync()
    await stack.put(simple, release="shop-r1", of="shop")
    await stack.sync(app="shop")
    async with asyncio.timeout(15):
        while simple.checks < CHECKS:
            await asyncio.sleep(0.05)
    assert connections_to(kept.port, psutil.CONN_TIME_WAIT) == 0
    async with httpx.AsyncClient(base_url=stack.url(), headers={"host": "shop.localhost"}) as visitor:
        assert (await visitor.get("/")).status_code == 200


async def test_an_instance_that_left_the_route_has_no_connection_of_a_check_that_it_would_wait_for_at_its_end(
    stack: Stack,
) -> None:
    app = stack.app("stable")
    await stack.put(app)
    await stack.sync()
    assert connections_to(app.port, psutil.CONN_ESTABLISHED) == 1
    await stack.put(stack.app("next"), release="notes-r2")
    await stack.sync()
    await stack.put(app, "draining")
    async with asyncio.timeout(10):
        while (await stack.sync())["instances"]["notes-r1-stable"]["route"] != "absent":
            await asyncio.sleep(0.05)
        while connections_to(app.port, psutil.CONN_ESTABLISHED):
            await asyncio.sleep(0.05)
