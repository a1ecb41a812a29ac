"""Many visitors of an app, each with a cookie jar of one cookie; cheap, since a connection carries many of them."""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from tests.support.proxy.proxy_stack import Stack

CONNECTIONS = 4
AT_ONCE = 50
COOKIE = "slipway-notes"


class Answer(NamedTuple):
    status: int
    app: str
    """The body, which is the name of the instance that answered."""
    cookies: list[str]
    """The values of `set-cookie`."""


class Visitor:
    """Sends the cookie that the last answer has set, and keeps `answer`, the last one."""

    def __init__(self, cookie: str = "") -> None:
        self.cookie = cookie
        self.answer = Answer(0, "", [])

    def take(self, answer: Answer) -> None:
        self.answer = answer
        for text in answer.cookies:
            pair, _, attributes = text.partition("; ")
            name, _, value = pair.partition("=")
            if name == COOKIE:
                self.cookie = "" if "Max-Age=0" in attributes else value


async def visit(stack: Stack, visitors: Sequence[Visitor], path: str = "/") -> None:
    """Sends one request of each visitor to the public port."""
    shares = [visitors[number::CONNECTIONS] for number in range(CONNECTIONS)]
    await asyncio.gather(*(_visit(stack, share, path) for share in shares if share))


async def _visit(stack: Stack, visitors: Sequence[Visitor], path: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", stack.settings.public_port)
    for first in range(0, len(visitors), AT_ONCE):
        some = visitors[first : first + AT_ONCE]
        for visitor in some:
            cookie = f"cookie: {COOKIE}={visitor.cookie}\r\n" if visitor.cookie else ""
            writer.write(f"GET {path} HTTP/1.1\r\nhost: notes.localhost\r\n{cookie}\r\n".encode())
        await writer.drain()
        for visitor in some:
            visitor.take(await _answer(reader))
    writer.close()


async def _answer(reader: asyncio.StreamReader) -> Answer:
    first, *headers = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()
    [length] = [int(line[16:]) for line in headers if line.startswith("content-length: ")]
    cookies = [line[12:] for line in headers if line.startswith("set-cookie: ")]
    return Answer(int(first.split()[1]), (await reader.readexactly(length)).decode(), cookies)
