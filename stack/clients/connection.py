"""Implements an HTTP/1.1 connection for clients that must know the outcome of every request. httpx is not suitable: at
200 requests/s it takes a third of a core from the system that is measured, and its pool does not tell whether a broken
connection had been given the request.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import httptools


class Lost(Exception):
    """Reports that a request got no complete answer; the text gives the reason."""


@dataclass
class Response:
    """Holds a response. Header names are in lower case; of a repeated header, the last value is kept."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


def request_bytes(
    method: str, path: str, host: str, body: bytes = b"", headers: Mapping[str, str] | None = None
) -> bytes:
    """Returns the request as the bytes to send. `host` is the value of the Host header."""
    lines = [f"{method} {path} HTTP/1.1", f"host: {host}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    if body or method == "POST":
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


class Connection(asyncio.Protocol):
    """Sends one request at a time over a connection; `open` creates it. It reads only responses with a length or in
    chunks.
    """

    def __init__(self) -> None:
        self.closed = False
        self._transport: asyncio.Transport
        self._waiting: asyncio.Future[Response] | None = None
        self._response = Response()
        self._parser = httptools.HttpResponseParser(self)

    @classmethod
    async def open(cls, url: str, timeout_s: float = 5.0) -> "Connection":
        """Connects to the host and port of `url`. Raises Lost if that fails."""
        address = urlsplit(url)
        try:
            async with asyncio.timeout(timeout_s):
                loop = asyncio.get_running_loop()
                _, connection = await loop.create_connection(cls, address.hostname or "", address.port or 80)
        except OSError as error:  # TimeoutError is a subclass of OSError
            raise Lost(f"no connection: {type(error).__name__}") from error
        return connection

    async def request(self, request: bytes, timeout_s: float = 10.0) -> Response:
        """Sends the request and returns its response. Raises Lost if there is no complete response. It must not be
        called once `closed` is true.
        """
        self._response = Response()
        self._waiting = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        try:
            async with asyncio.timeout(timeout_s):
                return await self._waiting
        except TimeoutError:
            self.close()
            raise Lost(f"no answer within {timeout_s:g} s") from None
        finally:
            self._waiting = None

    def close(self) -> None:
        self.closed = True
        self._transport.close()

    # --- called by asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._end(f"not HTTP: {error}")
            self._transport.close()

    def eof_received(self) -> None:
        self.closed = True

    def connection_lost(self, error: Exception | None) -> None:
        self._end("connection closed without a whole answer" + (f": {type(error).__name__}" if error else ""))

    def _end(self, why: str) -> None:
        self.closed = True
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(Lost(why))

    # --- called by httptools

    def on_header(self, name: bytes, value: bytes) -> None:
        self._response.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self._response.body += body

    def on_message_complete(self) -> None:
        self._response.status = self._parser.get_status_code()
        if not self._parser.should_keep_alive():
            self.close()
        if self._waiting is None or self._waiting.done():
            self.close()  # an answer without a request
        else:
            self._waiting.set_result(self._response)
