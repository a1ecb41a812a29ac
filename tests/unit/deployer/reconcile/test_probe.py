"""Tests what one probe makes of an app's answer, and what it does to the app and to the machine's ports."""

import asyncio
import contextlib
import http.server
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import psutil
import pytest

from services.deployer.reconcile.probe import ENDLESS, ONE_AT_A_TIME, ProbeOutcome, ProbeTarget, send_probe
from services.deployer.reconcile.probe_connection import HEAD_BYTES
from shared.manifest import health_check
from tests.support.ports import free_port

pytestmark = pytest.mark.anyio
HOST = "notes.localhost"
ANSWERED, FAILED, LATE = ProbeOutcome.ANSWERED, ProbeOutcome.FAILED, ProbeOutcome.LATE


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """The deployer runs under uvloop where that is installed."""
    return "asyncio", {"use_uvloop": request.param}


def target(port: int, health: str = "/up", *, is_new: bool = False) -> ProbeTarget:
    return ProbeTarget(f"127.0.0.1:{port}", health_check(health), HOST, is_new)


async def probed(*arguments: Any, **more: Any) -> tuple[ProbeOutcome, str]:
    result = await send_probe(target(*arguments, **more))
    return result.outcome, result.detail


# --- answers, byte by byte --------------------------------------------------------------------------------------------

Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


class Script:
    """An app that reads a request and then does what `answer` says. `requests` are the heads that it got."""

    def __init__(self, answer: Answer) -> None:
        self.requests: list[bytes] = []
        self.port = 0
        self._answer = answer

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError), contextlib.closing(writer):
            self.requests.append(await reader.readuntil(b"\r\n\r\n"))
            await self._answer(writer)
            await writer.drain()


@contextlib.asynccontextmanager
async def scripted(*chunks: bytes) -> AsyncIterator[Script]:
    """An app that sends these bytes, in as many pieces, and then closes the connection."""

    async def answer(writer: asyncio.StreamWriter) -> None:
        for chunk in chunks:
            writer.write(chunk)
            await writer.drain()
            await asyncio.sleep(0.01)

    async with serving(answer) as app:
        yield app


@contextlib.asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[Script]:
    app = Script(answer)
    server = await asyncio.start_server(app.serve, "127.0.0.1", 0)
    async with server:
        app.port = server.sockets[0].getsockname()[1]
        yield app


def head(status: str, *headers: str) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", *headers, "", ""]).encode()


async def test_a_probe_is_what_a_visitor_sends() -> None:
    async with scripted(head("204 No Content")) as app:
        assert await probed(app.port, "/up?deep=ü") == (ANSWERED, f"GET /up?deep=ü with Host {HOST} answered 204")
    assert app.requests == [
        b"GET /up?deep=%C3%BC HTTP/1.1\r\nHost: notes.localhost\r\nUser-Agent: slipway\r\nAccept: */*\r\n"
        b"X-Forwarded-Proto: http\r\nConnection: close\r\n\r\n"
    ]


@pytest.mark.parametrize(
    ("health", "status", "outcome"),
    [
        ("/up", 200, ANSWERED),
        ("/up", 299, ANSWERED),
        ("/up", 302, ANSWERED),
        ("/up", 304, ANSWERED),
        ("/up", 400, FAILED),
        ("/up", 503, FAILED),
        ("/", 404, FAILED),
        ("", 204, ANSWERED),
        ("", 302, ANSWERED),
        ("", 404, ANSWERED),
        ("", 499, ANSWERED),
        ("", 500, FAILED),
        ("", 101, FAILED),
    ],
)
async def test_a_given_path_answers_2xx_or_3xx_and_without_one_the_root_answers_below_500(
    health: str, status: int, outcome: ProbeOutcome
) -> None:
    async with scripted(head(f"{status} So", "Content-Length: 0", "Upgrade: none", "Connection: upgrade")) as app:
        assert await probed(app.port, health) == (
            outcome,
            f"GET {health or '/'} with Host notes.localhost answered {status}",
        )


@pytest.mark.parametrize(
    "chunks",
    [
        [b"HTTP/1.0 200 OK\r\n\r\n", b"up"],
        [b"HTTP/1.1 200\r\nConnection: close\r\n\r\n", b"up"],
        [b"HTTP/1.1 200 OK\nContent-Length: 2\n\nup"],
        [b"HTT", b"P/1.1 200 OK\r\nContent-", b"Length: 2\r\n\r", b"\nu", b"p"],
        [head("200 OK", "Transfer-Encoding: chunked"), b"2\r\nup\r\n", b"0\r\n\r\n"],
        [head("200 OK", "Transfer-Encoding: chunked"), b"no chunk"],
        [head("100 Continue"), head("103 Early Hints", "Link: </a>"), head("200 OK", "Content-Length: 2"), b"up"],
        [head("100 Continue") + head("200 OK", "Content-Length: 2") + b"up"],
        [head("200 OK", "Content-Length: 2") + b"up" + head("500 Next", "Content-Length: 0")],
        [head("200 OK", "Content-Length: 0", "Connection: close") + b"more"],
        [head("200 OK", "Content-Length: 10"), b"half"],
    ],
    ids=range(11),
)
@pytest.mark.parametrize("is_new", [False, True])
async def test_the_head_of_the_answer_decides(chunks: list[bytes], is_new: bool) -> None:
    async with scripted(*chunks) as app:
        assert await probed(app.port, is_new=is_new) == (ANSWERED, f"GET /up with Host {HOST} answered 200")


@pytest.mark.parametrize(
    ("chunks", "detail"),
    [
        (
            [b"\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x05\x00\x00\x40\x00"],  # HTTP/2, as gRPC speaks
            "GET /up: it does not speak HTTP/1.1 (Expected HTTP/, RTSP/ or ICE/); `health: tcp` checks the open port "
            "only",
        ),
        (
            [head("100 Continue"), b"220 mail.localhost ESMTP\r\n"],
            "GET /up: it does not speak HTTP/1.1 (Expected HTTP/, RTSP/ or ICE/); `health: tcp` checks the open port "
            "only",
        ),
        (
            [b"HTTP/1.1 200 OK\r\nContent-"],
            "GET /up: it closed the connection without an answer; if it does not speak HTTP/1.1, `health: tcp` checks "
            "the open port only",
        ),
        (
            [],
            "GET /up: it closed the connection without an answer; if it does not speak HTTP/1.1, `health: tcp` checks "
            "the open port only",
        ),
        (
            [head("200 OK", "X-Long: " + HEAD_BYTES * "x")[:-2]],
            "GET /up: the head of its answer is longer than 100 KiB",
        ),
        ([head("100 Continue") * 5000], "GET /up: the head of its answer is longer than 100 KiB"),
    ],
    ids=["http2", "garbage after 100", "half a head", "nothing", "a long head", "many interim answers"],
)
@pytest.mark.parametrize("is_new", [False, True])
async def test_what_is_no_answer_is_a_failure_with_its_reason(chunks: list[bytes], detail: str, is_new: bool) -> None:
    async with scripted(*chunks) as app:
        assert await probed(app.port, is_new=is_new) == (FAILED, detail)


async def test_a_head_that_comes_too_slowly_is_late() -> None:
    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n")
        while not writer.is_closing():
            writer.write(b"x: y\r\n")
            await asyncio.sleep(0.1)

    async with serving(answer) as app:
        assert await probed(app.port) == (LATE, "GET /up: no answer within 0.9 s")


@pytest.mark.parametrize("is_new", [False, True])
async def test_a_body_without_end_is_hardly_read(is_new: bool) -> None:
    sent = 0

    async def answer(writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(head("200 OK", "Transfer-Encoding: chunked"))
        while not writer.is_closing():
            writer.write(b"10000\r\n" + 0x10000 * b"x" + b"\r\n")
            sent += 0x10000
            await writer.drain()

    said = f"GET /up with Host {HOST} answered 200"
    async with serving(answer) as app:
        outcome = await probed(app.port, is_new=is_new)
    assert outcome == ((FAILED, f"{said}, {ENDLESS}") if is_new else (ANSWERED, said))
    assert sent < 24 * 2**20  # of which most is in the buffers of two sockets


async def test_a_long_page_is_well_if_it_ends() -> None:
    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(head("200 OK", f"Content-Length: {2**20}") + 2**20 * b"x")
        await writer.drain()

    async with serving(answer) as app:
        assert (await probed(app.port, is_new=True))[0] is ANSWERED


@pytest.mark.parametrize("is_new", [False, True])
async def test_a_body_that_trickles_without_end_is_a_failure_of_a_new_app_as_envoy_would_wait_for_its_end(
    is_new: bool,
) -> None:
    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(head("200 OK", "Content-Type: text/event-stream"))
        while not writer.is_closing():
            writer.write(b"data: up\n\n")
            await asyncio.sleep(0.05)

    said = f"GET /up with Host {HOST} answered 200"
    async with serving(answer) as app:
        outcome = await probed(app.port, is_new=is_new)
    assert outcome == ((FAILED, f"{said}, {ENDLESS}") if is_new else (ANSWERED, said))


async def test_an_open_port_is_enough_for_tcp() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        assert await probed(port, "tcp") == (ANSWERED, f"127.0.0.1:{port} is open")
    assert await probed(port, "tcp") == (FAILED, f"nothing listens on 127.0.0.1:{port}")


async def test_where_nothing_listens_there_is_no_answer() -> None:
    port = free_port()
    assert await probed(port) == (FAILED, f"GET /up: nothing listens on 127.0.0.1:{port}")


# --- connections ------------------------------------------------------------------------------------------------------


class Handler(http.server.BaseHTTPRequestHandler):
    """Keeps no connection, as Python's servers do by default."""

    def do_GET(self) -> None:
        self.send_response(200)
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


def time_wait(port: int) -> set[Any]:
    """Connections of the last minute that still occupy a port, on either side."""
    waiting = [each for each in psutil.net_connections("tcp") if each.status == psutil.CONN_TIME_WAIT]
    return {each for each in waiting if port in (each.laddr[1:2] + each.raddr[1:2])}


@pytest.mark.parametrize("port", KINDS, indirect=True)
@pytest.mark.parametrize("health", ["/", "tcp"])
async def test_probes_leave_no_port_occupied_and_the_app_notices_nothing(port: int, health: str) -> None:
    before, Threads.errors = time_wait(port), 0  # those of a client that had this port
    for _ in range(20 if health == "/" else 3):
        assert (await probed(port, health))[0] is ANSWERED
    assert health == "tcp" or time_wait(port) <= before
    assert Threads.errors == 0


@pytest.mark.parametrize(
    ("port", "outcome", "detail"),
    [
        ("one at a time", ANSWERED, f"GET / with Host {HOST} answered 200"),
        ("threads", ANSWERED, f"GET / with Host {HOST} answered 200"),
        ("threads, kept", ANSWERED, f"GET / with Host {HOST} answered 200"),
        pytest.param("one at a time, kept", FAILED, f"GET /: {ONE_AT_A_TIME}", marks=pytest.mark.slow),
    ],
    indirect=["port"],
)
async def test_a_new_app_that_keeps_a_connection_must_serve_others_meanwhile(
    port: int, outcome: ProbeOutcome, detail: str
) -> None:
    assert await probed(port, "/", is_new=True) == (outcome, detail)
