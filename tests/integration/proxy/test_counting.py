"""Tests what the proxy counts from the access log of a real Envoy."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from services.proxy.counting import hanging
from services.proxy.counting.log_reader import AccessLogReader
from services.proxy.envoy.admin import EnvoyAdmin, admin_client
from services.proxy.envoy.files import admin_socket
from tests.support.proxy.proxy_stack import Stack, until
from tests.support.proxy.raw_app import RawApp, raw_apps, route

pytestmark = pytest.mark.anyio


@pytest.fixture
async def canary(stack: Stack) -> AsyncIterator[RawApp]:
    """The only canary, with an open rollout at 100 %, beside production."""
    apps = RawApp("stable"), RawApp("canary")
    async with stack.service(), raw_apps(*apps):
        await route(stack, [apps[0]], [apps[1]], weight=100)
        yield apps[1]


async def traffic(stack: Stack) -> dict[str, Any]:
    answer: dict[str, Any] = (await stack.api.get("/apps/notes/traffic")).json()
    return answer


async def judged(stack: Stack) -> dict[str, Any]:
    found: dict[str, Any] = (await traffic(stack))["judged"]
    return found


async def until_counted(stack: Stack, requests: int) -> dict[str, Any]:
    """Returns the canary's counts for the analysis, once they hold so many requests."""

    async def counted() -> bool:
        return bool((await judged(stack))["tracks"]["canary"]["requests"] == requests)

    await until(counted, 30)
    found: dict[str, Any] = (await judged(stack))["tracks"]["canary"]
    return found


async def visit(stack: Stack, path: str, **headers: str) -> None:
    """A visitor without cookies, who may be left without an answer."""
    with contextlib.suppress(httpx.HTTPError):
        async with stack.visitor(timeout=5) as http:
            await http.get(path, headers=headers)


async def test_each_way_to_fail_is_an_error_of_the_canary_and_what_was_forced_is_none(
    stack: Stack, canary: RawApp
) -> None:
    for path in ("/", "/cut", "/reset", "/?content-type=text/event-stream"):
        await visit(stack, path)
    await visit(stack, "/cut", **{"x-canary": "always"})
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(visit(stack, "/hang"), 0.3)

    track = await until_counted(stack, 5)

    assert track["errors"] == {"cut": 1, "reset": 1, "gave_up": 1}
    assert (track["visitors"], track["failing_visitors"], track["latency"]["counts"][-1]) == (5, 3, 2)
    found = await judged(stack)
    assert found["left_out"] == {"forced": 1, "stream": 1}
    assert (found["release"], found["weight"], found["recognised"]) == ("notes-r2", 100, 0)
    general = (await traffic(stack))["tracks"]["canary"]
    assert (general["requests"], general["errors"]) == (6, 3)

    canary.die()
    await visit(stack, "/")
    assert (await until_counted(stack, 6))["errors"]["failed_over"] == 1


async def test_a_request_that_hangs_is_an_error_before_it_ends_and_counts_once(
    stack: Stack, canary: RawApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hanging, "SHORTEST_MS", 500.0)
    task = asyncio.create_task(visit(stack, "/hang"))
    track = await until_counted(stack, 1)
    assert (track["errors"], track["failing_visitors"], task.done()) == ({"hanging": 1}, 1, False)

    task.cancel()
    await visit(stack, "/")
    assert (await until_counted(stack, 2))["errors"] == {"hanging": 1}


async def test_counts_go_on_when_envoy_restarts_and_there_are_none_while_it_is_away(
    stack: Stack, canary: RawApp
) -> None:
    await visit(stack, "/")
    await until_counted(stack, 1)
    epoch = (await traffic(stack))["epoch"]
    stack.kill_envoy()
    assert (await stack.api.get("/traffic")).status_code == 503
    stack.start_envoy()
    await stack.sync()
    await visit(stack, "/")
    await until_counted(stack, 2)
    assert (await traffic(stack))["epoch"] == epoch


async def test_no_line_is_lost_or_read_twice_while_the_log_is_replaced(stack: Stack, canary: RawApp) -> None:
    lines: list[str] = []
    reopened = 0
    async with admin_client(admin_socket(stack.settings)) as admin, stack.visitor() as http:
        folder = stack.settings.home / "envoy"

        async def reopen() -> None:
            nonlocal reopened
            reopened += 1
            await EnvoyAdmin(admin).reopen_logs()

        reader = AccessLogReader(folder, reopen, longest=2000)

        async def read() -> bool:
            lines.extend([line async for each in reader.slices() for line in each])
            return len(lines) >= 200

        for number in range(200):
            await http.get(f"/{number}")
            if number % 10 == 9:
                await asyncio.sleep(0.05)  # Envoy writes five times a second
                await read()
        await until(read)
        assert len({line.split("\t")[-3] for line in lines}) == len(lines) == 200
        assert reopened > 2  # at the start, and for each log that had become long
