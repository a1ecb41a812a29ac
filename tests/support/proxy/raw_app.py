"""An app that treats its connections badly, as its visitors ask it to."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import NamedTuple
from urllib.parse import parse_qsl

from shared.models import Track
from tests.support.proxy.proxy_stack import Stack


class Request(NamedTuple):
    method: str
    path: str
    head: str

    @property
    def headers(self) -> dict[str, str]:
        pairs = (line.partition(": ") for line in self.head.splitlines()[1:] if line)
        return {name.lower(): value for name, _, value in pairs}


class RawApp:
    """Answers with its name; a request's query gives headers of the answer. `/die` ends it, `/reset` ends the
    connection, `/cut` ends it in the middle of the answer, `/hang` is never answered. `requests` are those of visitors.
    It closes a connection that was idle for `idle_s`, and one that has had `most` requests, without a word.
    `ended_by_envoy` is the number of connections that Envoy has closed.
    """

    def __init__(self, name: str, *, idle_s: float = 60.0, most: int = 10**9) -> None:
        self.name = name
        self.address = ""
        self.requests: list[Request] = []
        self.ended_by_envoy = 0
        self.hangs = False  # never answers visitors
        self._idle_s = idle_s
        self._most = most
        self._server: asyncio.Server
        self._connections: set[asyncio.StreamWriter] = set()

    @property
    def paths(self) -> list[str]:
        return [request.path for request in self.requests]

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()
        self.address = f"{host}:{port}"

    def die(self) -> None:
        """Ends as a killed process does: its connections are reset, and further ones refused."""
        self._server.close()
        for writer in self._connections:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        with contextlib.suppress(OSError, TimeoutError):
            for _ in range(self._most):
                try:
                    async with asyncio.timeout(self._idle_s):
                        head = await reader.readuntil(b"\r\n\r\n")
                except EOFError:
                    self.ended_by_envoy += 1
                    break
                method, path, _ = head.partition(b"\r\n")[0].decode().split()
                request = Request(method, path, head.decode("latin-1"))
                if method == "POST":
                    await reader.readexactly(int(request.headers["content-length"]))
                if request.path != "/up":
                    self.requests.append(request)
                if not await self._answer(request, writer):
                    return
        self._connections.discard(writer)
        writer.close()

    async def _answer(self, request: Request, writer: asyncio.StreamWriter) -> bool:
        """Returns False if the connection has ended."""
        path, _, query = request.path.partition("?")
        if path == "/die":
            self.die()
            return False
        if path == "/hang" or (self.hangs and path != "/up"):
            await asyncio.sleep(3600)
        if path == "/reset":
            writer.transport.abort()
            return False
        length = 1000 if path == "/cut" else len(self.name)
        headers = "".join(f"{name}: {value}\r\n" for name, value in parse_qsl(query))
        body = "" if request.method == "HEAD" else self.name
        writer.write(f"HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n{headers}\r\n{body}".encode())
        await writer.drain()
        if path == "/cut":
            writer.transport.abort()
        return path != "/cut"


@contextlib.asynccontextmanager
async def raw_apps(*apps: RawApp) -> AsyncIterator[None]:
    for app in apps:
        await app.start()
    try:
        yield
    finally:
        for app in apps:
            app.die()


async def put(
    stack: Stack, app: RawApp, state: str = "ready", *, track: Track = Track.STABLE, of: str = "notes"
) -> None:
    """Writes the instance's entry: of the app's second release if it is a canary, else of its first."""
    release = f"{of}-r2" if track is Track.CANARY else f"{of}-r1"
    await stack.put_address(app.address, f"{release}-{app.name}", state, release=release, track=track, of=of)


async def route(
    stack: Stack, stable: list[RawApp], canary: list[RawApp] | None = None, *, weight: int = 50, of: str = "notes"
) -> None:
    """Routes visitors to these instances; if there is a canary, with an open rollout."""
    for app in stable:
        await put(stack, app, of=of)
    for app in canary or []:
        await put(stack, app, track=Track.CANARY, of=of)
    await stack.sync(of)
    if canary:
        answer = await stack.api.post(f"/apps/{of}/rollout", json={"release": f"{of}-r2", "weight": weight})
        assert answer.status_code == 200, answer.text


def change_rollout(stack: Stack, **fields: str | int) -> None:
    """Changes fields of the stored rollout, while the proxy service is down."""
    file = stack.settings.home / "envoy" / "routes" / "notes.json"
    stored = json.loads(file.read_text())
    stored["rollout"] |= fields
    file.write_text(json.dumps(stored))
