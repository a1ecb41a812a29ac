"""Calls between services: what is tried again, what is raised, where the address comes from."""

from pathlib import Path

import httpx
import pytest
import respx
from redis.asyncio import Redis

from shared.clock import now
from shared.config import SharedSettings
from shared.errors import Problem, Unavailable
from shared.http import ServiceClient
from shared.models import ServiceRecord
from shared.registry import Registry

pytestmark = pytest.mark.anyio


@pytest.fixture
def settings(tmp_path: Path) -> SharedSettings:
    return SharedSettings(home=tmp_path, deployer_port=4001)


async def test_the_registry_says_where_a_service_is_and_the_call_carries_the_token(
    settings: SharedSettings, redis: Redis
) -> None:
    registry = Registry(redis)
    record = ServiceRecord(name="deployer", id="1", url="http://elsewhere:9", version="1", started_at=now())
    await registry.announce(record)
    async with httpx.AsyncClient(verify=False) as http:
        with respx.mock:
            route = respx.get("http://elsewhere:9/stats").respond(json={"items": []})
            assert await ServiceClient("deployer", settings, registry, http).get("/stats") == {"items": []}
    assert route.calls.last.request.headers["authorization"] == f"Bearer {settings.platform_token()}"


async def test_an_empty_registry_leaves_the_address_of_the_settings(settings: SharedSettings, redis: Redis) -> None:
    async with httpx.AsyncClient(verify=False) as http:
        with respx.mock:
            respx.get("http://127.0.0.1:4001/stats").respond(json=1)
            assert await ServiceClient("deployer", settings, Registry(redis), http).get("/stats") == 1


@pytest.mark.parametrize(
    ("method", "repeatable", "fault", "tries"),
    [
        ("GET", None, httpx.ReadTimeout("slow"), 4),
        ("POST", None, httpx.ReadTimeout("slow"), 1),  # it may have arrived
        ("POST", None, httpx.ConnectError("refused"), 4),  # it has not
        ("POST", True, httpx.ReadTimeout("slow"), 4),
    ],
)
async def test_only_what_may_arrive_twice_is_sent_twice(
    settings: SharedSettings, redis: Redis, method: str, repeatable: bool | None, fault: Exception, tries: int
) -> None:
    async with httpx.AsyncClient(verify=False) as http:
        client = ServiceClient("deployer", settings, Registry(redis), http)
        with respx.mock:
            route = respx.route(path="/x").mock(side_effect=fault)
            with pytest.raises(Unavailable, match="deployer does not answer"):
                await client.call(method, "/x", repeatable=repeatable)
    assert route.call_count == tries


async def test_the_other_sides_problem_is_raised_as_it_was_described(settings: SharedSettings, redis: Redis) -> None:
    document = {"type": "about:blank", "title": "Conflict", "status": 409, "detail": "not passed", "build": "notes-1"}
    async with httpx.AsyncClient(verify=False) as http:
        client = ServiceClient("deployer", settings, Registry(redis), http)
        with respx.mock:
            respx.post("http://127.0.0.1:4001/x").respond(409, json=document)
            with pytest.raises(Problem) as caught:
                await client.post("/x")
            respx.post("http://127.0.0.1:4001/y").respond(500, text="<html>")
            with pytest.raises(Problem, match="POST /y answered 500"):
                await client.post("/y")
    assert (caught.value.status, caught.value.detail, caught.value.extra) == (409, "not passed", {"build": "notes-1"})
