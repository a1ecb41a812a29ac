"""Implements the connection of one probe: sends a request and reads the head of the answer. The parser (httptools) is
written in C and a probe needs no task of its own, so it takes a third of the CPU that h11 over asyncio's streams took.
Most of the rest is the kernel's work for the connection itself; decision 30 says why the connection is not kept open.
"""

import asyncio
import socket
import struct
from typing import cast

import httptools

HEAD_BYTES = 100 * 1024
# A connection that is reset occupies nothing afterwards; one that is closed occupies a port (TIME_WAIT) for a minute.
RESET_AT_CLOSE = (socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
TCP_REMEDY = "`health: tcp` checks the open port only"


class ProbeConnection(asyncio.Protocol):
    """Sends one request over one connection and reads the answer, of which only the status is kept."""

    def __init__(self, request: bytes, *, reset: bool, most_bytes: int = HEAD_BYTES) -> None:
        """Prepares the connection. With `reset`, it is closed by a TCP reset, which leaves no port occupied. With an
        empty `request`, nothing is sent. Reads only about `most_bytes` of the answer, in case the answer is endless.
        """
        loop = asyncio.get_running_loop()
        self.answered: asyncio.Future[None] = loop.create_future()
        """Done when the head was read, or will never be: `status` or `fault` says more."""
        self.ended: asyncio.Future[None] = loop.create_future()
        """Done when nothing more of the answer is read."""
        self.status = 0
        self.fault = ""
        """The reason in words for people why there is no status."""
        self.is_kept = False
        """True if the app keeps the connection open after its answer."""
        self.is_cut = False
        """True if the answer is longer than what is read of it."""
        self._request = request
        self._most_bytes = most_bytes
        self._reset = reset
        self._read = 0
        self._transport: asyncio.Transport
        self._parser = httptools.HttpResponseParser(self)
        self._parser.set_dangerous_leniencies(lenient_optional_cr_before_lf=True)  # as Envoy does

    def close(self) -> None:
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's transport does not derive from this class
        if self._reset:
            self._transport.get_extra_info("socket").setsockopt(*RESET_AT_CLOSE)
        if self._request:
            self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if self.ended.done():
            self._transport.pause_reading()
            return
        self._read += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._end("")
        except httptools.HttpParserError as error:
            self._end(f"it does not speak HTTP/1.1 ({error}); {TCP_REMEDY}")
        if self._read > HEAD_BYTES and not self.answered.done():
            self._end(f"the head of its answer is longer than {HEAD_BYTES // 1024} KiB")
        elif self._read > self._most_bytes and not self.ended.done():
            self.is_cut = True
            self._end("")

    def eof_received(self) -> None:
        self._end(f"it closed the connection without an answer; if it does not speak HTTP/1.1, {TCP_REMEDY}")

    def connection_lost(self, error: Exception | None) -> None:
        self._end(f"{type(error).__name__}: {error}" if error else "the connection was closed")

    def _end(self, fault: str) -> None:
        """Stops reading. `fault` is the reason to store if there is no status yet."""
        if not self.answered.done():
            self.fault = fault
            self.answered.set_result(None)
        if not self.ended.done():
            self.ended.set_result(None)

    # --- called by httptools

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        is_interim = 100 <= status < 200 and status != 101
        if not is_interim and not self.answered.done():
            self.status, self.is_kept = status, self._parser.should_keep_alive()
            self.answered.set_result(None)

    def on_message_complete(self) -> None:
        if self.status and not self.ended.done():
            self.ended.set_result(None)
