"""`Allow` names every method of a path, and HEAD is answered where GET is."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from fastapi.sse import EventSourceResponse
from redis.asyncio import Redis

from shared.config import SharedSettings
from shared.registry import Registry
from shared.web.app import create_app

pytestmark = pytest.mark.anyio


@pytest.fixture
def ended() -> asyncio.Event:
    """Is set when the event stream of the app has ended."""
    return asyncio.Event()


@pytest.fixture
def app(tmp_path: Path, redis: Redis, ended: asyncio.Event) -> FastAPI:
    reading, changing = APIRouter(prefix="/things"), APIRouter()

    @reading.get("/{name}")
    async def get(name: str) -> dict[str, str]:
        return {"name": name}

    @reading.delete("/{name}")
    async def delete(name: str) -> None:
        pass

    @changing.put("/things/{name}")
    async def put(name: str) -> None:
        pass

    @changing.post("/things/{name}/start")
    async def start(name: str) -> None:
        pass

    @changing.get("/events", response_class=EventSourceResponse)
    async def events() -> AsyncIterator[str]:
        try:
            while True:
                yield "again"
                await asyncio.sleep(0.01)
        finally:
            ended.set()

    settings = SharedSettings.model_validate({"home": tmp_path, "token": "t"})
    return create_app("build", settings, Registry(redis), description="", routers=[reading, changing])


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"Authorization": "Bearer t"}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://b", headers=headers) as client:
        yield client


async def test_allow_has_the_methods_of_all_routers(client: httpx.AsyncClient) -> None:
    for method, path, allowed in (
        ("PATCH", "/things/a", "DELETE, GET, HEAD, PUT"),
        ("OPTIONS", "/things/a", "DELETE, GET, HEAD, PUT"),
        ("GET", "/things/a/start", "POST"),
        ("HEAD", "/things/a/start", "POST"),
        ("POST", "/health", "GET, HEAD"),
    ):
        answer = await client.request(method, path)
        assert (answer.status_code, answer.headers["allow"]) == (405, allowed), (method, path)
    assert "allow" not in (await client.get("/nothing")).headers


async def test_head_is_get_without_the_body(client: httpx.AsyncClient, ended: asyncio.Event) -> None:
    got, asked = await client.get("/things/a"), await client.head("/things/a")
    assert (asked.status_code, asked.content, asked.headers["content-length"]) == (200, b"", str(len(got.content)))
    assert asked.headers["content-type"] == "application/json"
    assert (await client.head("/nothing")).status_code == 404
    assert (await client.head("/static/docs.js")).status_code == 200
    assert (await client.head("/things/a", headers={"Authorization": ""})).status_code == 401
    assert 'route="/things/{name}",status="200"' in (await client.get("/metrics")).text


async def test_head_ends_an_event_stream(client: httpx.AsyncClient, ended: asyncio.Event) -> None:
    answer = await client.head("/events")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    await asyncio.wait_for(ended.wait(), 5)
