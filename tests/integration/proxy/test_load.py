"""The service as its own process, and what visitors notice of its work: nothing."""

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import IO

import httpx
import pytest

from shared.models import Track
from tests.support.ports import wait_for_port
from tests.support.proxy.proxy_stack import TOKEN, Stack, until

pytestmark = pytest.mark.anyio


def start_service(environment: dict[str, str], log: IO[bytes]) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "services.proxy"], env=environment, stderr=log)


@contextlib.asynccontextmanager
async def visitors(stack: Stack) -> AsyncIterator[list[str]]:
    """Eight of them, on kept connections, each asking again and again; yields what went wrong for them."""
    faults: list[str] = []
    stop = asyncio.Event()

    async def visit(number: int) -> None:
        async with stack.visitor(timeout=10) as http:
            while not stop.is_set():
                http.cookies.clear()
                body = f"body {number}"
                try:
                    post = number % 4 == 0
                    answer = await (http.post("/", content=body) if post else http.get("/slow" if number == 1 else "/"))
                except httpx.HTTPError as error:
                    faults.append(repr(error))
                    continue
                if answer.status_code != 200 or (post and not answer.text.endswith(body)):
                    faults.append(f"{answer.status_code} {answer.text}")

    tasks = [asyncio.create_task(visit(number)) for number in range(8)]
    try:
        yield faults
    finally:
        stop.set()
        await asyncio.gather(*tasks)


async def take_out(stack: Stack, name: str, release: str, track: Track) -> None:
    """Ends an instance in the deployer's way: drains it, waits until it is absent, and only then ends it."""
    app = next(app for app in stack.apps if app.name == name)
    await stack.put(app, "draining", release=release, track=track)

    async def absent() -> bool:
        return bool((await stack.sync())["instances"][f"{release}-{name}"]["route"] == "absent")

    await until(absent)
    stack.kill(app)
    await stack.put(app, "stopped", release=release, track=track)
    await stack.registry.delete_instance("notes", track, f"{release}-{name}")


async def test_releases_a_canary_and_its_abort_lose_no_request(stack: Stack) -> None:
    async with stack.service():
        await stack.put(stack.app("app-1"))
        await stack.sync()
        async with visitors(stack) as faults:
            for number in (2, 3):
                await stack.put(stack.app(f"app-{number}"), release=f"notes-r{number}")
                await stack.sync()
                await take_out(stack, f"app-{number - 1}", f"notes-r{number - 1}", Track.STABLE)
            await stack.put(stack.app("canary"), release="notes-r4", track=Track.CANARY)
            await stack.sync()
            await stack.api.post("/apps/notes/rollout", json={"release": "notes-r4", "weight": 50})
            await asyncio.sleep(0.3)
            answer = await stack.api.post("/apps/notes/rollout/abort", json={"release": "notes-r4"})
            assert answer.status_code == 200
            await take_out(stack, "canary", "notes-r4", Track.CANARY)
        assert faults == []


async def test_the_service_runs_as_a_process_of_its_own(stack: Stack) -> None:
    settings = stack.settings
    await stack.put(stack.app("stable"))
    with (settings.home / "proxy.log").open("ab") as log:
        service = start_service(stack.environment(), log)
    try:
        await asyncio.to_thread(wait_for_port, settings.proxy_port)
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with httpx.AsyncClient(verify=False, base_url=settings.url("proxy"), headers=headers) as api:

            async def well() -> bool:  # Envoy has no cluster yet, so its start did not wait for the keeper
                return bool((await api.get("/ready")).json() == {"ready": True, "problems": {}, "warnings": {}})

            await until(well)
            assert (await api.post("/apps/notes/sync", json={"hosts": []})).status_code == 200
            assert (await api.get("/apps/notes/traffic", headers={"Authorization": ""})).status_code == 401
            names = [record.name for record in await stack.registry.services()]
            assert names == ["proxy"]
    finally:
        service.terminate()
        await asyncio.to_thread(service.wait, 10)
    assert await stack.registry.services() == []
    async with stack.visitor() as http:
        assert (await http.get("/")).text == "stable"  # Envoy needs no proxy service


async def test_a_websocket_reaches_the_app(stack: Stack) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if b"upgrade: websocket" not in head.lower():
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        else:
            writer.write(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n")
            writer.write(await reader.readexactly(5))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    app = stack.app("stable")
    app.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, stack.service():
        await stack.put(app)
        await stack.sync()
        reader, writer = await asyncio.open_connection("127.0.0.1", stack.settings.public_port)
        writer.write(b"GET / HTTP/1.1\r\nhost: notes.localhost\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n")
        assert b" 101 " in await reader.readline()
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
