"""Clients that open many connections and ask nothing neither end Envoy nor keep others from being served.

Envoy and the service may open 400 files: 100 connections of visitors, 25 of one client.
"""

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from tests.support.ports import wait_for_port
from tests.support.proxy.proxy_stack import ENVOY, TOKEN, Stack, until

pytestmark = pytest.mark.anyio

MAY_OPEN = ["prlimit", "--nofile=400:400"]
VISITORS, OF_ONE_CLIENT = 100, 25


@pytest.fixture
async def served(stack: Stack) -> AsyncIterator[None]:
    """The app is routed; Envoy and the service have the limit of open files."""
    stack.kill_envoy()
    await stack.put(stack.app("stable"))
    log = (stack.settings.home / "proxy.log").open("ab")
    command = [*MAY_OPEN, sys.executable, "-m", "services.proxy"]
    with log, subprocess.Popen(command, env=stack.environment(), stderr=log) as service:
        try:
            await asyncio.to_thread(wait_for_port, stack.settings.proxy_port)
            start_envoy(stack)
            headers = {"Authorization": f"Bearer {TOKEN}"}
            async with httpx.AsyncClient(
                verify=False, base_url=stack.settings.url("proxy"), headers=headers
            ) as stack.api:
                await stack.sync()
                yield
        finally:
            service.kill()


def start_envoy(stack: Stack) -> None:
    """With the bootstrap that the service has written."""
    bootstrap = stack.settings.home / "envoy" / "bootstrap.json"
    command = [*MAY_OPEN, str(ENVOY), "-c", str(bootstrap), "--disable-hot-restart", "--concurrency", "2"]
    with (stack.settings.home / "envoy.log").open("ab") as log:
        stack.envoy = subprocess.Popen([*command, "-l", "warning"], stdout=log, stderr=log)
    wait_for_port(stack.settings.public_port)


class Idle:
    """Connections of one client, a tenth of which have sent the first bytes of a request, and none a whole one."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._opened: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def open(self, stack: Stack, count: int) -> None:
        for number in range(count):
            port, local = stack.settings.public_port, (self._address, 0)
            self._opened.append(await asyncio.open_connection("127.0.0.1", port, local_addr=local))
            if number % 10 == 0:
                with contextlib.suppress(OSError):
                    self._opened[-1][1].write(b"GET / HTTP/1.1\r\nhost: notes")

    @property
    def left(self) -> int:
        """Number of connections that Envoy has not closed."""
        return sum(not reader.at_eof() and reader.exception() is None for reader, _ in self._opened)

    def close(self) -> None:
        for _, writer in self._opened:
            writer.close()


@contextlib.contextmanager
def clients(*numbers: int) -> Iterator[list[Idle]]:
    """Clients whose addresses end with these numbers; this machine has all of 127.0.0.0/8."""
    idle = [Idle(f"127.0.0.{number}") for number in numbers]
    try:
        yield idle
    finally:
        for each in idle:
            each.close()


async def answer(stack: Stack) -> str:
    """Returns what a visitor at 127.0.0.1 gets on a new connection; empty if Envoy has none for him."""
    async with stack.visitor() as http:
        try:
            return (await http.get(stack.url())).text
        except httpx.TransportError:
            return ""


def ran_throughout(stack: Stack) -> bool:
    """True if Envoy neither ended nor had to be started again."""
    return stack.envoy is not None and stack.envoy.poll() is None


async def test_one_client_has_a_fourth_of_the_connections_and_others_are_served(stack: Stack, served: None) -> None:
    with clients(2, 3) as both:
        for each in both:
            await each.open(stack, 3 * VISITORS)
        await until(lambda: [each.left for each in both] == [OF_ONE_CLIENT, OF_ONE_CLIENT])
        assert [await answer(stack) for _ in range(20)] == ["stable"] * 20
    assert ran_throughout(stack)


async def test_when_all_connections_are_taken_those_that_ask_nothing_are_closed(stack: Stack, served: None) -> None:
    with clients(2, 3, 4, 5, 6) as many:
        for each in many:
            await each.open(stack, OF_ONE_CLIENT + 5)

        async def is_served() -> bool:
            return await answer(stack) == "stable"

        await until(is_served, 20)  # after five minutes, if nothing told Envoy that it is full
        await until(lambda: sum(each.left for each in many) < VISITORS / 2, 20)
    assert ran_throughout(stack)
