"""A visitor keeps the track that chance gave, by one cookie an app, through a real Envoy."""

from collections.abc import AsyncIterator
from urllib.parse import urlencode

import httpx
import pytest

from shared.models import Track
from tests.support.proxy.proxy_stack import Stack
from tests.support.proxy.raw_app import RawApp, put, raw_apps, route
from tests.support.proxy.visitors import Visitor, visit

pytestmark = pytest.mark.anyio


@pytest.fixture
async def stack(stack: Stack) -> AsyncIterator[Stack]:
    """The proxy service runs too."""
    async with stack.service():
        yield stack


@pytest.fixture
async def apps() -> AsyncIterator[tuple[RawApp, RawApp]]:
    """Production and canary."""
    found = RawApp("stable"), RawApp("canary")
    async with raw_apps(*found):
        yield found


async def set_weight(stack: Stack, weight: int) -> None:
    assert (await stack.api.put("/apps/notes/rollout", json={"weight": weight})).status_code == 200


def with_canary(visitors: list[Visitor]) -> set[Visitor]:
    return {visitor for visitor in visitors if visitor.answer.app == "canary"}


async def test_a_third_of_the_visitors_gets_the_canary_and_nobody_leaves_it_while_the_weight_grows(
    stack: Stack, apps: tuple[RawApp, RawApp]
) -> None:
    await route(stack, [apps[0]], [apps[1]], weight=5)
    visitors = [Visitor() for _ in range(3_000)]
    await visit(stack, visitors)
    assert {(visitor.answer.status, len(visitor.answer.cookies)) for visitor in visitors} == {(200, 1)}
    before = with_canary(visitors)
    assert 80 < len(before) < 220
    await set_weight(stack, 33)
    fresh = [Visitor() for _ in range(3_000)]
    await visit(stack, [*visitors, *fresh])
    share = len(with_canary([*visitors, *fresh])) / 6_000
    assert share == pytest.approx(0.33, abs=0.026)  # 4.3 standard deviations; of 3 000 visitors it would be 3
    assert before < with_canary(visitors)
    before = with_canary(visitors)
    await set_weight(stack, 60)
    await visit(stack, visitors)
    assert before < with_canary(visitors)
    assert {len(visitor.answer.cookies) for visitor in visitors} == {0}  # they keep the one that they got first


async def test_the_cookie_of_an_earlier_rollout_is_replaced_and_without_a_rollout_it_is_removed(
    stack: Stack, apps: tuple[RawApp, RawApp]
) -> None:
    await route(stack, [apps[0]], [apps[1]], weight=100)
    [visitor] = visitors = [Visitor("notes-r1.0f5c")]
    await visit(stack, visitors)
    release, _, number = visitor.cookie.partition(".")
    assert (release, len(number), visitor.answer.app) == ("notes-r2", 36, "canary")
    [text] = visitor.answer.cookies
    assert text == f"slipway-notes={visitor.cookie}; Max-Age=86400; Path=/; HttpOnly; SameSite=Lax"
    assert visitor.cookie not in str(apps[1].requests)

    assert (await stack.api.put("/apps/notes/rollout", json={"enabled": False})).status_code == 200
    await visit(stack, visitors)
    assert (visitor.answer.app, visitor.answer.cookies) == ("stable", [])  # it may go on

    assert (await stack.api.post("/apps/notes/rollout/abort", json={"release": "notes-r2"})).status_code == 200
    await visit(stack, visitors, "/?cache-control=public")
    assert visitor.answer.cookies == []
    assert f"slipway-notes={visitor.cookie}" in str(apps[0].requests)  # the app sees it, as before
    await visit(stack, visitors)
    assert visitor.answer.cookies == ["slipway-notes=; Max-Age=0; Path=/; HttpOnly; SameSite=Lax"]
    await visit(stack, visitors)
    assert (visitor.cookie, visitor.answer.cookies) == ("", [])


async def test_an_answer_that_shared_caches_may_keep_has_no_cookie(
    stack: Stack, apps: tuple[RawApp, RawApp], http: httpx.AsyncClient
) -> None:
    await route(stack, [apps[0]], [apps[1]])
    for headers, kept in (
        ([], False),
        ([("cache-control", "Public, max-age=60")], True),
        ([("cache-control", "max-age=60")], True),
        ([("cache-control", "must-revalidate"), ("cache-control", "s-maxage=5")], True),
        ([("cache-control", "max-age=0")], False),
        ([("cache-control", "no-cache")], False),
        ([("cache-control", "public, no-cache")], True),
        ([("cache-control", "private, max-age=60")], False),
        ([("cache-control", "public, no-store")], False),
        ([("expires", "Tue, 01 Dec 2026 10:00:00 GMT")], True),
        ([("expires", "Thu, 19 Nov 1981 08:52:00 GMT")], False),
        ([("expires", "Tue, 01 Dec 2026 10:00:00 GMT"), ("cache-control", "max-age=0")], False),
        ([("expires", "0")], False),
    ):
        http.cookies.clear()
        answer = await http.get(f"/?{urlencode(headers)}")
        assert ("set-cookie" not in answer.headers) == kept, headers


async def test_what_a_visitor_sends_as_the_requests_id_does_not_choose_the_track(
    stack: Stack, apps: tuple[RawApp, RawApp], http: httpx.AsyncClient
) -> None:
    await route(stack, [apps[0]], [apps[1]])
    for _ in range(5):
        http.cookies.clear()
        answer = await http.get("/", headers={"x-request-id": "x; Domain=example.com"})
        assert "Domain" not in answer.headers["set-cookie"]


async def test_a_newer_rollout_begins_with_other_visitors(stack: Stack, apps: tuple[RawApp, RawApp]) -> None:
    await route(stack, [apps[0]], [apps[1]])
    visitors = [Visitor() for _ in range(200)]
    await visit(stack, visitors)
    before = with_canary(visitors)
    newer = RawApp("canary")
    async with raw_apps(newer):
        await stack.put_address(newer.address, "notes-r3-canary", release="notes-r3", track=Track.CANARY, of="notes")
        await put(stack, apps[1], "draining", track=Track.CANARY)
        await stack.sync()
        assert (
            await stack.api.post("/apps/notes/rollout", json={"release": "notes-r3", "weight": 50})
        ).status_code == 200
        await visit(stack, visitors)
        assert {visitor.cookie.partition(".")[0] for visitor in visitors} == {"notes-r3"}
        assert 40 < len(with_canary(visitors) ^ before) < 160
