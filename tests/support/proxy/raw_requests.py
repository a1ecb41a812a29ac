"""Requests byte for byte through a real Envoy to an app that notes what it gets, without the proxy service: Envoy's
files are written once.
"""

import contextlib
import json
import re
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from services.proxy.envoy.files import CERTIFICATES, EnvoyFiles, prepare
from shared.config import SharedSettings
from tests.support.ports import free_port, wait_for_port
from tests.support.proxy.authority import Authority
from tests.support.proxy.proxy_stack import ENVOY
from tests.support.proxy.routes import endpoint, route

HOST = "notes.localhost"
ANSWER_S = 10.0


class Got(NamedTuple):
    """A request as the app got it."""

    line: str
    headers: list[tuple[str, str]]
    body: bytes

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]


class NotingApp:
    """Reads requests strictly, and notes in `requests` those that are whole, without those of its health; what is no
    request, too. A request's path `/headers?120` asks for that many headers. `/quiet` is answered when `release()` is
    called.
    """

    def __init__(self) -> None:
        self.requests: list[Got] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self.asked, self._go = threading.Event(), threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def release(self) -> None:
        self._go.set()

    def close(self) -> None:
        self._go.set()
        self._socket.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError, EOFError, ValueError), connection, connection.makefile("rb") as stream:
            while got := self._read(stream):
                path = got.line.split(" ")[1]
                if path != "/up":
                    self.requests.append(got)
                if path == "/quiet":
                    self.asked.set()
                    self._go.wait()
                count = int(path.rpartition("?")[2] or 0) if path.startswith("/headers") else 0
                more = "".join(f"x-{number}: 1\r\n" for number in range(count))
                connection.sendall(f"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n{more}\r\nok".encode())

    def _read(self, stream: Any) -> Got | None:
        head = []
        while (line := stream.readline()) not in (b"\r\n", b""):
            head.append(line.decode("latin-1").removesuffix("\r\n"))
        if not head:
            return None
        headers = [(name.lower(), value.strip()) for name, _, value in (each.partition(":") for each in head[1:])]
        got = Got(head[0], headers, b"")
        if not re.fullmatch(r"[A-Z]+ /\S* HTTP/1\.1", head[0]):
            self.requests.append(got)
            raise EOFError
        if not got.values("transfer-encoding"):
            return got._replace(body=self._exactly(stream, int((got.values("content-length") or ["0"])[0])))
        body = b""
        while size := int(stream.readline(), 16):
            body += self._exactly(stream, size)
            self._exactly(stream, 2)
        self._exactly(stream, 2)
        return got._replace(body=body)

    def _exactly(self, stream: Any, size: int) -> bytes:
        found: bytes = stream.read(size)
        if len(found) < size:
            raise EOFError
        return found


class Edge:
    """Envoy and the keeper, with the one app `notes`, to which also the hosts in `hosts` belong."""

    def __init__(self, home: Path, *hosts: str, **settings: Any) -> None:
        self.app = NotingApp()
        ports = {f"{name}_port": free_port() for name in ("public", "production", "canary")}
        self.settings = SharedSettings.model_validate({"home": home, **ports, **settings})
        self._processes: list[subprocess.Popen[bytes]] = []
        self.bootstrap = prepare(self.settings)
        given = route(endpoint("notes-r1-1", port=self.app.port))
        EnvoyFiles(self.bootstrap.parent).write([given.model_copy(update={"hosts": [HOST, *hosts]})])
        self._authority = Authority()
        issued = self._authority.issue(HOST)
        secret = {"certificate_chain": {"inline_string": issued.chain}, "private_key": {"inline_string": issued.key}}
        document = {"version_info": "1", "resources": [{"tls_certificate": secret}]}
        (self.bootstrap.parent / CERTIFICATES / f"{HOST}.json").write_text(json.dumps(document))

    def start(self) -> None:
        folder = self.bootstrap.parent
        commands: list[list[str]] = [
            [sys.executable, "-m", "services.keeper", str(folder)],
            [str(ENVOY), "-c", str(self.bootstrap), "--disable-hot-restart", "--concurrency", "1", "-l", "warning"],
        ]
        for command in commands:
            with (folder / "log").open("ab") as log:
                self._processes.append(subprocess.Popen(command, stdout=log, stderr=log))
        for port in self.settings.envoy_ports.values():
            wait_for_port(port)

    def close(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait(10)
        self.app.close()

    def connect(
        self, port: int = 0, source: str = "127.0.0.1", first: bytes = b"", tls: str | None = None
    ) -> socket.socket:
        """Opens a connection to the port, without one to the public port, as a client of that address. Sends the bytes
        `first`, and then speaks TLS if `tls` says the protocol within it: `h2` or `http/1.1`.
        """
        address = ("127.0.0.1", port or self.settings.public_port)
        connection = socket.create_connection(address, ANSWER_S, source_address=(source, 0))
        connection.sendall(first)
        return self._authority.context(tls).wrap_socket(connection, server_hostname=HOST) if tls else connection

    def send(self, request: bytes, *arguments: Any, **options: Any) -> bytes:
        """Sends these bytes on a connection of their own (see `connect`), and returns the answer's head."""
        with self.connect(*arguments, **options) as connection:
            connection.sendall(request)
            return answer(connection)

    def ask(self, *headers: str, **options: Any) -> Got:
        """Sends a good GET with these headers on a connection of its own; returns what the app got."""
        lines = "".join(f"{each}\r\n" for each in (f"Host: {HOST}", *headers))
        seen = len(self.app.requests)
        found = self.send(f"GET / HTTP/1.1\r\n{lines}\r\n".encode(), **options)
        assert found.startswith(b"HTTP/1.1 200"), found
        [got] = self.app.requests[seen:]
        return got


@contextlib.contextmanager
def running_edge(home: Path, *hosts: str, **settings: Any) -> Iterator[Edge]:
    with contextlib.closing(Edge(home, *hosts, **settings)) as edge:
        edge.start()
        yield edge


def answer(connection: socket.socket) -> bytes:
    """Reads an answer until its head is whole or the connection ends; a reset counts as its end."""
    found = b""
    with contextlib.suppress(ConnectionError):
        while b"\r\n\r\n" not in found and (chunk := connection.recv(65536)):
            found += chunk
    return found


def status(found: bytes) -> int:
    """Returns the status of an answer; 0 if the connection ended without one."""
    return int(found.split(b" ", 2)[1]) if found.startswith(b"HTTP/1.") else 0


def proxy_v1(client: str, port: int = 443) -> bytes:
    """Returns the PROXY protocol's line, version 1, for a client of that IPv4 address."""
    return f"PROXY TCP4 {client} 192.0.2.1 40000 {port}\r\n".encode()


def proxy_v2(client: str, port: int = 443) -> bytes:
    """Returns the PROXY protocol's header, version 2."""
    addresses = socket.inet_aton(client) + socket.inet_aton("192.0.2.1") + struct.pack("!HH", 40000, port)
    return b"\r\n\r\n\x00\r\nQUIT\n" + b"\x21\x11" + struct.pack("!H", len(addresses)) + addresses


Headers = list[tuple[str, str]]
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _GOAWAY = 0, 1, 3, 4, 7
_END_STREAM, _END_HEADERS = 1, 4
_STATUS = {0x88: 200, 0x8C: 400, 0x8D: 404, 0x8E: 500}


def http_2(headers: Headers, body: bytes | None = None) -> bytes:
    """Returns a connection by HTTP/2 with one request, which may have any names and values of headers."""
    block = b"".join(b"\x00" + _text(name) + _text(value) for name, value in headers)
    sent = PREFACE + _frame(_SETTINGS, 0, b"")
    sent += _frame(_HEADERS, _END_HEADERS | (_END_STREAM if body is None else 0), block, stream=1)
    return sent if body is None else sent + _frame(_DATA, _END_STREAM, body, stream=1)


def http_2_status(connection: socket.socket) -> int:
    """Reads the answer to a request by HTTP/2. Returns its status; 0 if that is another than 200, 400, 404 and 500, or
    if Envoy ended the stream or the connection.
    """
    with contextlib.suppress(ConnectionError), connection.makefile("rb") as stream:
        while len(head := stream.read(9)) == 9:
            kind, payload = head[3], stream.read(int.from_bytes(head[:3], "big"))
            if kind == _HEADERS:
                return _STATUS.get(payload[0], 0)
            if kind in (_RESET, _GOAWAY):
                return 0
    return 0


def _text(value: str) -> bytes:
    raw = value.encode("latin-1")
    assert len(raw) < 127
    return bytes([len(raw)]) + raw


def _frame(kind: int, flags: int, payload: bytes, *, stream: int = 0) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload
