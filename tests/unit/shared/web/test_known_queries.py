"""A query key that a call does not know is refused, with those that it knows."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated

import httpx
import pytest
from fastapi import APIRouter, Depends, Query
from fastapi.responses import HTMLResponse
from redis.asyncio import Redis

from shared.config import SharedSettings
from shared.registry import Registry
from shared.web.app import create_app

pytestmark = pytest.mark.anyio
HTML = {"Accept": "text/html,*/*"}


def selected(state: str | None = None, start: Annotated[int, Query(alias="from")] = 0) -> str | None:
    return state


@pytest.fixture
async def client(tmp_path: Path, redis: Redis) -> AsyncIterator[httpx.AsyncClient]:
    router = APIRouter()

    @router.get("/things")
    async def things(state: Annotated[str | None, Depends(selected)], limit: int = 1) -> None:
        pass

    @router.post("/things/{name}")
    async def change(name: str) -> None:
        pass

    @router.get("/page", response_class=HTMLResponse)
    async def page() -> str:
        return ""

    @router.get("/badge.svg")
    @router.get("/protocol/call")
    async def other() -> None:
        pass

    app = create_app(
        "build",
        SharedSettings.model_validate({"home": tmp_path, "token": "t"}),
        Registry(redis),
        description="",
        routers=[router],
        public=r"/badge\.svg",
        protocol="/protocol/.*",
    )
    headers = {"Authorization": "Bearer t"}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://b", headers=headers) as client:
        yield client


async def test_an_unknown_key_is_named_beside_those_that_the_call_knows(client: httpx.AsyncClient) -> None:
    assert (await client.get("/things?limit=2&state=a&from=1")).status_code == 200
    answer = await client.get("/things?limit=2&stat=a&q")
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    known = "there is no such key; this call knows from, limit, state"
    assert answer.json()["errors"] == [
        {"field": "query.q", "detail": known},
        {"field": "query.stat", "detail": known},
    ]
    none = await client.post("/things/a?dry_run=true", headers=HTML)
    assert none.json()["detail"] == "query.dry_run: there is no such key; this call knows none", "also of a browser"


async def test_links_to_pages_and_calls_that_others_define_may_have_any_key(client: httpx.AsyncClient) -> None:
    for path in ("/page?utm_source=x", "/health?x=1", "/badge.svg?v=2", "/protocol/call?new=1"):
        assert (await client.get(path)).status_code == 200, path
    assert (await client.get("/things?utm_source=x", headers=HTML)).status_code == 200
