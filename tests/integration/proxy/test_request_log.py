"""Envoy's log of requests, written by a real Envoy, and the list that people get from it."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from services.proxy.envoy.access_log import ACCESS_LOG, REQUEST_LOG
from tests.support.proxy.proxy_stack import Stack, until
from tests.support.proxy.raw_app import RawApp, raw_apps, route

pytestmark = pytest.mark.anyio


@pytest.fixture
async def app(stack: Stack) -> AsyncIterator[RawApp]:
    """The only one, to which the proxy service routes."""
    async with stack.service(), raw_apps(app := RawApp("stable")):
        await route(stack, [app])
        yield app


def logged(stack: Stack) -> list[dict[str, Any]]:
    text = (stack.settings.home / "envoy" / REQUEST_LOG).read_text()
    return [json.loads(line) for line in text.splitlines()]


def waited_ms(item: dict[str, Any]) -> int:
    milliseconds: int = item["duration_ms"] if item["first_byte_ms"] is None else item["first_byte_ms"]
    return milliseconds


async def test_a_request_is_a_line_of_json_without_query_and_secrets(
    stack: Stack, http: httpx.AsyncClient, app: RawApp
) -> None:
    secret = {"authorization": "Bearer hidden", "cookie": "session=hidden", "referer": "http://a.example/?hidden"}
    await http.post("/pay?token=hidden", content=b"12345", headers={"user-agent": "a browser", **secret})
    await until(lambda: len(logged(stack)) == 1)
    [line] = logged(stack)
    assert "hidden" not in str(line)
    times = [line.pop("first_byte_ms"), line.pop("duration_ms")]
    assert times == sorted(times)
    assert line.pop("time").endswith("Z")
    assert len(line.pop("request_id")) == 36
    assert line == {
        "route": "notes/stable",
        "method": "POST",
        "scheme": "http",
        "host": "notes.localhost",
        "path": "/pay",
        "status": 200,
        "received_bytes": 5,
        "sent_bytes": 6,
        "client": "127.0.0.1",
        "user_agent": "a browser",
        "instance": "notes-r1-stable",
        "flags": "-",
        "details": "via_upstream",
    }
    assert (stack.settings.home / "envoy" / REQUEST_LOG).stat().st_mode & 0o777 == 0o600


async def test_the_last_and_the_slowest_requests_are_listed(stack: Stack, http: httpx.AsyncClient, app: RawApp) -> None:
    for path in ("/slow-down", "/cut", "/fast"):
        try:
            await http.get(path)
        except httpx.RemoteProtocolError:
            assert path == "/cut"
    hanging = asyncio.create_task(http.get("/hang"))
    await until(lambda: "/hang" in app.paths)
    hanging.cancel()

    async def listed() -> bool:
        return len((await stack.api.get("/apps/notes/requests")).json()["items"]) == 4

    await until(listed)
    newest = (await stack.api.get("/apps/notes/requests")).json()
    assert [item["path"] for item in newest["items"]] == ["/hang", "/fast", "/cut", "/slow-down"]
    assert newest["next"] is None
    hang, fast, cut, _ = newest["items"]
    assert (hang["status"], hang["flags"], hang["first_byte_ms"]) == (0, "DC", None)
    assert (fast["status"], fast["flags"], cut["flags"]) == (200, None, "UPE")
    slowest = (await stack.api.get("/apps/notes/requests", params={"sort": "slowest", "limit": 2})).json()["items"]
    assert slowest == sorted(newest["items"], key=waited_ms, reverse=True)[:2]
    page = await stack.api.get("/apps/notes/requests", headers={"accept": "text/html"})
    assert page.status_code == 200 and "GET /fast" in page.text and "DC downstream_remote_disconnect" in page.text
    assert (await stack.api.get("/apps/blog/requests")).status_code == 404


async def test_odd_bytes_of_a_visitor_neither_hide_a_request_from_counting_nor_break_another_line(
    stack: Stack, http: httpx.AsyncClient, app: RawApp
) -> None:
    for odd in (b"\xff\xfe", b'"}\t\\', "ä\u2028".encode()):
        await http.get("/odd", headers={b"user-agent": odd})
    await http.get('/"quoted\\\\path"')
    await http.get("/good")

    async def newest() -> list[str]:
        return [item["path"] for item in (await stack.api.get("/apps/notes/requests")).json()["items"]]

    await until(lambda: "/good" in (stack.settings.home / "envoy" / REQUEST_LOG).read_text(errors="replace"))
    assert (await newest())[0] == "/good"
    await until(lambda: len((stack.settings.home / "envoy" / ACCESS_LOG).read_bytes().splitlines()) == 5)

    async def counted() -> bool:
        return bool((await stack.api.get("/apps/notes/traffic")).json()["tracks"]["stable"]["requests"] == 5)

    await until(counted)
