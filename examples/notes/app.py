"""The web server: HTTP/1.1 with keep-alive, a thread for each connection, and an orderly end on SIGTERM."""

import contextlib
import os
import signal
import socket
import socketserver
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from flags import Flag
from notes import FAIL_SHARE, FLAG, SLOW_S, Answer, Identity, Notes, notice

MAX_BODY = 10 * 2**20


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 75  # seconds of silence until a kept-alive connection is closed; a proxy in front should give up sooner
    wbufsize = -1  # head and body leave in one packet
    disable_nagle_algorithm = True
    server: "Server"

    def setup(self) -> None:
        super().setup()
        self.server.becomes_idle(self.connection)

    def parse_request(self) -> bool:
        self.server.becomes_busy(self.connection)
        return super().parse_request()

    def handle_expect_100(self) -> bool:
        proceed = super().handle_expect_100()
        self.wfile.flush()
        return proceed

    def do_GET(self) -> None:
        body = self._body()
        if body is None:
            self.close_connection = True
            self._send(notice(413, "Too large", "Send a Content-Length of at most 10 MiB."))
        else:
            self._send(self.server.notes.answer(self.command, self.path, body))
        self.wfile.flush()
        self.server.becomes_idle(self.connection)

    do_HEAD = do_POST = do_GET

    def _body(self) -> bytes | None:
        """Always read, or it would be taken for the connection's next request. None: not one that is read here."""
        length = self.headers.get("Content-Length", "0")
        if "Transfer-Encoding" in self.headers or not length.isdecimal() or int(length) > MAX_BODY:
            return None
        return self.rfile.read(int(length))

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        if self.close_connection or self.server.stopping:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    def log_message(self, format: str, *args: object) -> None:
        """No access log: the proxy in front counts requests."""


class Server(ThreadingHTTPServer):
    """`stop` ends it: no new connection, idle ones are closed, requests that are under way are answered."""

    daemon_threads = False  # so that server_close() waits for them
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], notes: Notes) -> None:
        self.notes = notes
        self.stopping = False
        self._idle: set[socket.socket] = set()
        self._lock = threading.Lock()
        super().__init__(address, Handler)

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)  # HTTPServer's looks its own name up, which can take seconds

    def becomes_idle(self, connection: socket.socket) -> None:
        with self._lock:
            self._idle.add(connection)
            if self.stopping:
                _end_reading(connection)

    def becomes_busy(self, connection: socket.socket) -> None:
        with self._lock:
            self._idle.discard(connection)

    def shutdown_request(self, request: socket.socket) -> None:
        self.becomes_busy(request)
        super().shutdown_request(request)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is not worth a traceback."""

    def stop(self) -> None:
        """Call it from another thread than serve_forever()'s."""
        self.shutdown()
        with self._lock:
            self.stopping = True
            for connection in self._idle:
                _end_reading(connection)


def _end_reading(connection: socket.socket) -> None:
    """Its thread reads what has arrived, then the end."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RD)


def make_server(environment: Mapping[str, str], fail_share: float = 0.0, slow_s: float = 0.0) -> Server:
    """A bound server, configured by what Slipway tells an app in its environment."""
    identity = Identity.of(environment)
    flag = Flag(
        FLAG,
        environment.get("OFREP_ENDPOINT", "http://127.0.0.1:3003"),
        environment.get("FLAGS_TOKEN", ""),
        identity.release or "notes",
    )
    notes = Notes(identity, flag.look_up, lambda: flag.value, fail_share, slow_s)
    return Server((environment.get("HOST", "127.0.0.1"), int(environment.get("PORT", "9090"))), notes)


def main() -> None:
    with make_server(os.environ, FAIL_SHARE, SLOW_S) as server:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: threading.Thread(target=server.stop).start())
        server.serve_forever(poll_interval=0.1)
    # Leaving the block has waited for every request that was under way.


if __name__ == "__main__":
    main()
