"""Copies of production's requests for the canary, made by a real Envoy."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import httpx
import pytest

from services.proxy.envoy.access_log import ACCESS_LOG
from shared.models import Track
from tests.support.proxy.proxy_stack import Stack, until
from tests.support.proxy.raw_app import RawApp, change_rollout, put, raw_apps, route

pytestmark = pytest.mark.anyio


@pytest.fixture
async def apps() -> AsyncIterator[tuple[RawApp, RawApp]]:
    """Production and canary."""
    found = RawApp("stable"), RawApp("canary")
    async with raw_apps(*found):
        yield found


@contextlib.asynccontextmanager
async def mirroring(stack: Stack, apps: tuple[RawApp, RawApp], percent: int, weight: int) -> AsyncIterator[None]:
    """Runs the proxy service with a rollout that copies so many percent of production's requests."""
    async with stack.service():
        await route(stack, [apps[0]], [apps[1]], weight=weight)
    change_rollout(stack, mirror=percent)
    async with stack.service():
        await stack.sync()
        yield


async def visit(http: httpx.AsyncClient, count: int) -> list[str]:
    """So many new visitors; returns which app answered each."""
    answers = []
    for number in range(count):
        http.cookies.clear()
        answers.append((await http.get(f"/{number}", headers={"host": "notes.localhost"})).text)
    return answers


async def test_production_answers_and_the_canary_gets_a_copy_of_what_it_was_asked(
    stack: Stack, http: httpx.AsyncClient, apps: tuple[RawApp, RawApp]
) -> None:
    stable, canary = apps
    async with mirroring(stack, apps, percent=100, weight=0):
        assert set(await visit(http, 20)) == {"stable"}
        await http.post("/posted", content=b"x")
        await http.get("/chosen", headers={"x-canary": "never"})
        await http.get("/upgraded", headers={"connection": "upgrade", "upgrade": "websocket"})
        await http.get(f"{stack.url('production')}/inside")
        await until(lambda: len(canary.requests) >= 20)
        assert sorted(canary.paths) == sorted(f"/{number}" for number in range(20))
        assert {request.headers["host"] for request in canary.requests} == {"notes.localhost"}
        assert (await stack.api.post("/apps/notes/rollout/abort", json={"release": "notes-r2"})).status_code == 200
        await asyncio.sleep(0.05)  # a copy that is under way
        canary.requests.clear()
        assert set(await visit(http, 20)) == {"stable"}
        assert (await http.get("/last")).text == "stable"
        assert canary.requests == []
        assert "/19" in stable.paths


async def test_the_canarys_own_visitors_are_not_copied_and_the_share_of_copies_is_as_asked(
    stack: Stack, http: httpx.AsyncClient, apps: tuple[RawApp, RawApp]
) -> None:
    stable, canary = apps
    async with mirroring(stack, apps, percent=50, weight=50):
        answers = await visit(http, 200)
        forged = {"x-slipway-mirror": "notes/canary"}
        for number in range(20):
            http.cookies.clear()
            answers.append((await http.get(f"/forged-{number}", headers=forged)).text)
        own = answers.count("canary")
        copies = len(canary.requests) - own
        assert 0.25 < copies / answers.count("stable") < 0.75
        assert len(stable.requests) == answers.count("stable")
        assert len(canary.paths) == len(set(canary.paths))


async def test_copies_are_not_in_the_access_log_and_do_not_hold_up_a_canary_that_leaves(
    stack: Stack, http: httpx.AsyncClient, apps: tuple[RawApp, RawApp]
) -> None:
    _, canary = apps

    async with mirroring(stack, apps, percent=100, weight=0):
        canary.hangs = True
        assert set(await visit(http, 80)) == {"stable"}  # more than may hang at a time
        await until(lambda: len(canary.requests) == 64)
        assert (await http.get("/", headers={"x-canary": "never"})).text == "stable"
        canary.hangs = False
        assert (await http.get("/", headers={"x-canary": "always"})).text == "canary"
        log = stack.settings.home / "envoy" / ACCESS_LOG
        await until(lambda: log.read_text().count("DownstreamEnd") == 82)
        await put(stack, canary, "draining", track=Track.CANARY)
        assert (await stack.sync())["instances"]["notes-r2-canary"]["route"] == "absent"
