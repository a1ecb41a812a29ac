"""Envoy's access log, written by a real Envoy."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from services.proxy.envoy.access_log import ACCESS_LOG, FIELDS
from shared.models import Track
from tests.support.proxy.proxy_stack import Stack, until
from tests.support.proxy.raw_app import RawApp, put, raw_apps, route

pytestmark = pytest.mark.anyio

END, IN_FLIGHT = "DownstreamEnd", "DownstreamPeriodic"


@pytest.fixture
async def stack(stack: Stack) -> AsyncIterator[Stack]:
    """The proxy service runs too."""
    async with stack.service():
        yield stack


@pytest.fixture
async def canary(stack: Stack) -> AsyncIterator[RawApp]:
    """The only canary, with an open rollout at 100 %, beside production."""
    apps = RawApp("stable"), RawApp("canary")
    async with raw_apps(*apps):
        await route(stack, [apps[0]], [apps[1]], weight=100)
        yield apps[1]


def logged(stack: Stack, kind: str = END) -> list[dict[str, str]]:
    """The lines of the type."""
    text = (stack.settings.home / "envoy" / ACCESS_LOG).read_text()
    lines = [line.split("\t", len(FIELDS) - 1) for line in text.splitlines()]
    assert {len(line) for line in lines} <= {len(FIELDS)}
    return [dict(zip(FIELDS, line, strict=True)) for line in lines if line[0] == kind]


def seen(stack: Stack, *fields: str, kind: str = END) -> list[tuple[str, ...]]:
    return [tuple(line[field] for field in fields) for line in logged(stack, kind)]


async def test_a_line_names_the_route_the_track_that_was_chosen_and_the_one_that_answered(
    stack: Stack, http: httpx.AsyncClient, canary: RawApp
) -> None:
    assert (await http.get("/")).text == "canary"
    await http.get("/")
    await http.get("/", headers={"x-canary": "always"})
    await http.get("/", headers={"x-canary": "never"})
    await http.get(stack.url("production"))
    await http.get(stack.url("canary"))
    canary.die()
    await http.get("/")
    await until(lambda: len(logged(stack)) == 7)
    assert sorted(seen(stack, "route", "cluster", "track", "release", "status")) == [
        ("notes/always", "notes/split", "canary", "notes-r2", "200"),
        ("notes/canary", "notes/canary", "canary", "notes-r2", "200"),
        ("notes/known", "notes/split", "canary", "notes-r2", "200"),
        ("notes/known", "notes/split", "stable", "notes-r1", "200"),
        ("notes/never", "notes/stable", "stable", "notes-r1", "200"),
        ("notes/new", "notes/split", "canary", "notes-r2", "200"),
        ("notes/production", "notes/stable", "stable", "notes-r1", "200"),
    ]
    new, known, *_ = logged(stack)
    assert known["visitor"] == f"notes-r2.{new['request_id']}"
    assert (new["visitor"], new["method"], new["attempts"], new["grpc_status"]) == ("-", "GET", "1", "-")
    assert int(new["first_byte_us"]) > 0
    assert int(new["duration_ms"]) >= int(new["received_ms"]) >= 0
    assert float(new["start_s"]) > 1.7e9


async def test_a_request_that_waits_for_its_answer_has_a_line_each_second_and_one_that_fails_says_how(
    stack: Stack, http: httpx.AsyncClient, canary: RawApp
) -> None:
    hanging = [asyncio.create_task(http.get("/hang")), asyncio.create_task(http.get(f"{stack.url('production')}/hang"))]
    for path in ("/cut", "/reset"):
        try:
            await http.get(path)
        except httpx.RemoteProtocolError:
            assert path == "/cut"
    await until(lambda: len(logged(stack, IN_FLIGHT)) == 2)
    for task in hanging:
        task.cancel()
    await until(lambda: len(logged(stack)) == 4)
    assert set(seen(stack, "route", "status", "first_byte_us", kind=IN_FLIGHT)) == {("notes/new", "0", "-")}
    ends = {(line["status"], line["flags"], line["details"].partition("{")[0]) for line in logged(stack)}
    assert ends == {
        ("0", "DC", "downstream_remote_disconnect"),
        ("200", "UPE", "upstream_reset_after_response_started"),
        ("503", "UC", "upstream_reset_before_response_started"),
    }
    [waiting, ended] = [line for line in logged(stack, IN_FLIGHT) if line["route"] == "notes/new"][:2]
    assert waiting["request_id"] == ended["request_id"]


async def test_odd_text_of_a_visitor_and_of_the_app_shifts_no_field(
    stack: Stack, http: httpx.AsyncClient, canary: RawApp
) -> None:
    long = "x" * 300
    for cookie in (f"notes-r2.{long}", f"notes-r2.a\t{long}", "notes-r2."):
        await http.get(f"/?content-type=a%09{long}", headers={"cookie": f"slipway-notes={cookie}"})
    await http.get(f"/?content-type=a%09{long}", headers={"cookie": f"slipway-notes=notes-r2.{'a' * 300}"})
    await until(lambda: len(logged(stack)) == 4)
    assert seen(stack, "route", "visitor", "content_type") == [
        *[("notes/new", "-", f"a\t{long[:38]}")] * 3,
        ("notes/known", f"notes-r2.{'a' * 111}", f"a\t{long[:38]}"),
    ]


async def test_envoys_own_pages_are_named_and_nothing_else_of_the_request_is_written(
    stack: Stack, http: httpx.AsyncClient, canary: RawApp
) -> None:
    await put(stack, canary, "draining", track=Track.CANARY)
    await stack.sync()
    answer = await http.get(
        f"{stack.url('canary')}/secret-path?secret-query", headers={"authorization": "secret-token"}
    )
    assert answer.status_code == 503
    await until(lambda: len(logged(stack)) == 1)
    assert seen(stack, "route", "cluster", "track", "details") == [("notes/page", "-", "-", "direct_response")]
    assert "secret" not in str(logged(stack))


async def test_a_new_envoy_appends_to_the_log_which_only_its_owner_may_read(
    stack: Stack, http: httpx.AsyncClient, canary: RawApp
) -> None:
    file = stack.settings.home / "envoy" / ACCESS_LOG
    await http.get("/")
    await until(lambda: len(logged(stack)) == 1)
    before = file.read_text()
    stack.kill_envoy()
    stack.start_envoy()
    await stack.sync()

    async def served() -> Any:
        return (await http.get("/")).status_code == 200

    await until(served)
    await until(lambda: len(logged(stack)) >= 2)
    assert file.read_text().startswith(before)
    assert file.stat().st_mode & 0o777 == 0o600
