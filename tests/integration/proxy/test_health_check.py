"""Envoy's health check: it agrees with the deployer's probe; it occupies no ports, and no app that serves one
connection at a time.
"""

import asyncio
import http.server
import threading
from collections.abc import AsyncIterator, Callable, Iterator

import psutil
import pytest

from services.deployer.reconcile.probe import ProbeOutcome, ProbeTarget, send_probe
from shared.manifest import health_check
from tests.support.proxy.proxy_stack import App, Server, Stack

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
    async with stack.visitor("shop") as visitor:
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


def picky(status: int) -> Server:
    """An app that answers only what a visitor of `shop.localhost` sends, and with this status."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            named = self.headers["host"], self.headers["x-forwarded-proto"]
            self.send_response(status if named == ("shop.localhost", "http") and self.path in ("/", "/up") else 400)
            self.send_header("Location", "/login")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None: ...

    return Server(Handler)


def sends(answer: bytes) -> Server:
    """An app that sends this, whatever it is asked, and closes the connection."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def handle(self) -> None:
            self.connection.recv(65536)
            self.wfile.write(answer)

    return Server(Handler)


HTTP2 = b"\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x05\x00\x00\x40\x00"  # as an app of gRPC speaks

# name → the app, `run.health`, `run.health_host` or its first host, and what both say
AGREED: dict[str, tuple[Callable[[], Server], str, str, bool]] = {
    "up": (lambda: picky(200), "/up", "shop.localhost", True),
    "redirects": (lambda: picky(302), "/up", "shop.localhost", True),
    "missing": (lambda: picky(404), "/up", "shop.localhost", False),
    "fails": (lambda: picky(503), "/up", "shop.localhost", False),
    "other-host": (lambda: picky(200), "/up", "other.localhost", False),
    "root": (lambda: picky(200), "", "shop.localhost", True),
    "root-missing": (lambda: picky(404), "", "shop.localhost", True),
    "root-fails": (lambda: picky(500), "", "shop.localhost", False),
    "bare-lf": (lambda: sends(b"HTTP/1.1 200 OK\nContent-Length: 0\n\n"), "/up", "shop.localhost", True),
    "until-closed": (lambda: sends(b"HTTP/1.0 200 OK\r\n\r\nup"), "/up", "shop.localhost", True),
    "no-http": (lambda: sends(HTTP2), "", "shop.localhost", False),
    "tcp": (lambda: sends(HTTP2), "tcp", "shop.localhost", True),
}


async def test_envoy_and_the_deployer_agree_on_what_is_well(stack: Stack) -> None:
    async def both(name: str) -> tuple[str, bool, bool]:
        make, health, host, _ = AGREED[name]
        app = make()
        try:
            address = f"127.0.0.1:{app.port}"
            probe = await send_probe(ProbeTarget(address, health_check(health), host, True))
            await stack.put_address(address, f"{name}-r1-1", release=f"{name}-r1", of=name)
            body = {"hosts": [], "health": health, "health_host": host}
            answer = await stack.api.post(f"/apps/{name}/sync", json=body, timeout=20)
            assert answer.status_code in (200, 504), answer.text
            if answer.status_code == 504:
                assert f"does not pass Envoy's health check {health or '/'}" in answer.text
            return name, probe.outcome is ProbeOutcome.ANSWERED, answer.status_code == 200
        finally:
            app.close()

    said = await asyncio.gather(*map(both, AGREED))
    assert said == [(name, well, well) for name, (*_, well) in AGREED.items()]


async def test_each_release_is_checked_with_its_own_host(stack: Stack) -> None:
    for number, host in enumerate(("old.localhost", "new.localhost"), start=1):
        app = stack.app(f"app{number}")
        await stack.put(app, release=f"notes-r{number}")
        await stack.sync(health="/up", health_host=host)
        assert app.health_hosts == {host}
    assert stack.apps[0].health_hosts == {"old.localhost"}
