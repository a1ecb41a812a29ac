"""A server that answers as a test tells it to, and keeps the requests that it got."""

import contextlib
import itertools
import json
import socketserver
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import parse_headers
from io import BytesIO

COMMIT = "c" * 40


@dataclass
class Request:
    """One request; `connection` counts the connections up from 0."""

    connection: int
    number: int
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Reply:
    """Holds the bytes that the server sends; with `close` it then closes the connection without announcing it."""

    data: bytes
    close: bool = False


def http(body: bytes, status: int = 200, **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} Any", f"content-length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def good(request: Request, track: str = "stable") -> Reply:
    """Answers as examples/notes does behind Slipway."""
    body = json.dumps({"commit": COMMIT}).encode() if request.path == "/version" else request.body
    return Reply(http(body, x_slipway_track=track))


Behaviour = Callable[[Request], Reply]


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.connections = itertools.count()
        self.numbers = itertools.count()
        self.requests: list[Request] = []
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(socketserver.StreamRequestHandler):
    server: Server

    def handle(self) -> None:
        connection = next(self.server.connections)
        with contextlib.suppress(OSError):
            while line := self.rfile.readline():
                method, path, _ = line.decode().split()
                headers = {name.lower(): value for name, value in parse_headers(_head(self.rfile)).items()}
                body = self.rfile.read(int(headers.get("content-length", 0)))
                request = Request(connection, next(self.server.numbers), method, path, headers, body)
                self.server.requests.append(request)
                reply = self.server.behaviour(request)
                self.wfile.write(reply.data)
                if reply.close:
                    return


def _head(lines: Iterator[bytes]) -> BytesIO:
    head = BytesIO()
    for line in lines:
        head.write(line)
        if line in (b"\r\n", b"\n"):
            break
    head.seek(0)
    return head


@contextlib.contextmanager
def serving(behaviour: Behaviour) -> Iterator[Server]:
    with Server(behaviour) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
