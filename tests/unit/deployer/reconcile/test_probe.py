"""A probe leaves no port occupied, and finds an app that serves one connection at a time."""

import http.server
import threading
from collections.abc import Iterator

import psutil
import pytest

from services.deployer.reconcile.probe import ONE_AT_A_TIME, ProbeOutcome, ProbeTarget, send_probe

pytestmark = pytest.mark.anyio


class Handler(http.server.BaseHTTPRequestHandler):
    """Keeps no connection, as Python's servers do by default."""

    def do_GET(self) -> None:
        self.send_response(200)
        if self.path == "/endless":
            self.end_headers()
            while True:
                self.wfile.write(b"x" * 10_000)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"up")

    def log_message(self, *args: object) -> None: ...


class KeepingHandler(Handler):
    protocol_version = "HTTP/1.1"


class Threads(http.server.ThreadingHTTPServer):
    errors = 0

    def handle_error(self, *args: object) -> None:
        Threads.errors += 1


KINDS = {
    "one at a time": (http.server.HTTPServer, Handler),
    "one at a time, kept": (http.server.HTTPServer, KeepingHandler),
    "threads": (Threads, Handler),
    "threads, kept": (Threads, KeepingHandler),
}


@pytest.fixture
def port(request: pytest.FixtureRequest) -> Iterator[int]:
    kind, handler = KINDS[request.param]
    with kind(("127.0.0.1", 0), handler) as serving:
        thread = threading.Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield serving.server_port
        serving.shutdown()
        thread.join()


def time_wait(port: int) -> int:
    """Connections of the last minute that still occupy a port, on either side."""
    waiting = [each for each in psutil.net_connections("tcp") if each.status == psutil.CONN_TIME_WAIT]
    return sum(end.port == port for each in waiting for end in (each.laddr, each.raddr) if end)


@pytest.mark.parametrize("port", KINDS, indirect=True)
async def test_probes_leave_no_port_occupied_and_the_app_notices_nothing(port: int) -> None:
    Threads.errors = 0
    for _ in range(20):
        result = await send_probe(ProbeTarget(f"127.0.0.1:{port}", "/", False))
        assert (result.outcome, result.detail) == (ProbeOutcome.ANSWERED, "GET / answered")
    assert time_wait(port) == 0
    assert Threads.errors == 0


@pytest.mark.parametrize(
    ("port", "outcome", "detail"),
    [
        ("one at a time", ProbeOutcome.ANSWERED, "GET / answered"),
        ("threads", ProbeOutcome.ANSWERED, "GET / answered"),
        ("threads, kept", ProbeOutcome.ANSWERED, "GET / answered"),
        pytest.param("one at a time, kept", ProbeOutcome.FAILED, f"GET /: {ONE_AT_A_TIME}", marks=pytest.mark.slow),
    ],
    indirect=["port"],
)
async def test_a_new_app_that_keeps_a_connection_must_serve_others_meanwhile(
    port: int, outcome: ProbeOutcome, detail: str
) -> None:
    result = await send_probe(ProbeTarget(f"127.0.0.1:{port}", "/", True))
    assert (result.outcome, result.detail) == (outcome, detail)


@pytest.mark.parametrize("port", ["threads"], indirect=True)
async def test_an_answer_without_end_is_read_no_further_than_needed(port: int) -> None:
    result = await send_probe(ProbeTarget(f"127.0.0.1:{port}", "/endless", False))
    assert result.outcome is ProbeOutcome.ANSWERED
