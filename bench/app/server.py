"""The smallest app that can be deployed: answers every request with the same few bytes, as fast as asyncio can."""

import asyncio
import os
import signal

BODY = f'{{"commit": "{os.environ.get("SLIPWAY_COMMIT", "")}"}}'.encode()
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(BODY), BODY)
END = b"\r\n\r\n"


class Answering(asyncio.Protocol):
    def __init__(self) -> None:
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        *requests, self._rest = (self._rest + data).split(END)
        self._transport.write(ANSWER * len(requests))


async def main() -> None:
    loop = asyncio.get_running_loop()
    address = os.environ.get("HOST", "127.0.0.1"), int(os.environ["PORT"])
    server = await loop.create_server(Answering, *address, backlog=1024)
    ended = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()
    server.close()


if __name__ == "__main__":
    asyncio.run(main())
