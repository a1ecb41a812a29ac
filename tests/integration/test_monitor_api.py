"""The monitor's REST, and the whole service beside a deployer and a proxy that are not there."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from services.monitor.config import Settings
from services.monitor.main import build_app
from services.monitor.redis_sample_store import RedisSampleStore
from services.monitor.sample import Sample, Watched
from shared.models import Environment, InstanceState
from tests.conftest import free_port

pytestmark = pytest.mark.anyio

AT = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
async def app(tmp_path: Path, redis_server: str, redis: Redis) -> AsyncIterator[Any]:
    settings = Settings(home=tmp_path, token=SecretStr("token"), redis_url=redis_server)
    settings.deployer_port, settings.proxy_port = free_port(), free_port()
    app = build_app(settings)
    async with app.router.lifespan_context(app):
        yield app


@pytest.fixture
async def http(app: Any) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"Authorization": "Bearer token"}
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://monitor", headers=headers
    ) as client:
        yield client


async def test_instances_and_their_samples(http: httpx.AsyncClient, redis: Redis) -> None:
    def watched(second: int, cpu: float) -> Watched:
        at = AT + timedelta(seconds=second)
        sample = Sample(at=at, cpu=cpu, working_set=10, memory_limit=40, memory=0.25)
        return Watched(
            id="notes-r9-1",
            app="notes",
            environment=Environment.CANARY,
            release="notes-r9",
            component="web",
            state=InstanceState.READY,
            started_at=AT,
            sample=sample,
        )

    await RedisSampleStore(redis).add([watched(second, second) for second in range(0, 60, 2)])
    [instance] = (await http.get("/instances", params={"app": "notes"})).json()["items"]
    assert (instance["id"], instance["sample"]["cpu"]) == ("notes-r9-1", 58)
    assert (await http.get("/instances", params={"app": "other"})).json()["items"] == []

    span = {"from": AT.isoformat(), "to": (AT + timedelta(seconds=59)).isoformat()}
    every = (await http.get("/instances/notes-r9-1/samples", params=span)).json()["items"]
    assert [item["cpu"] for item in every] == list(range(58, -1, -2))
    thinned = (await http.get("/instances/notes-r9-1/samples", params=span | {"step": "20"})).json()["items"]
    assert [item["cpu"] for item in thinned] == [58, 38, 18]
    assert (await http.get("/instances/notes-r9-1/samples")).json() == {"items": [], "next": None}

    swapped = await http.get("/instances/notes-r9-1/samples", params={"from": span["to"], "to": span["from"]})
    assert (swapped.status_code, swapped.json()["errors"][0]["field"]) == (422, "from")
    assert (await http.get("/instances/nobody/samples")).status_code == 404
    assert (await http.get("/instances/nobody/samples", params={"from": "yesterday"})).status_code == 422


async def test_rules_are_there_without_setup_and_can_be_set(http: httpx.AsyncClient) -> None:
    assert [rule["name"] for rule in (await http.get("/rules")).json()["items"]] == ["errors", "health", "samples"]
    body = {"metric": "memory", "threshold": 0.9, "clear": 0.8, "for_s": 30}
    put = await http.put("/rules/full", json=body)
    assert put.json() == body | {"name": "full", "aborts": False, "enabled": True}
    assert (await http.get("/rules/full")).json() == put.json()
    assert (await http.put("/rules/errors", json=body | {"enabled": False})).status_code == 200
    assert (await http.get("/rules/errors")).json()["enabled"] is False
    for name in ("full", "errors"):
        assert (await http.delete(f"/rules/{name}")).status_code == 204
    assert (await http.get("/rules/full")).status_code == 404
    assert (await http.delete("/rules/full")).status_code == 404
    assert (await http.get("/rules/errors")).json()["enabled"] is True


@pytest.mark.parametrize(
    ("wrong", "field"),
    [({"metric": "luck"}, "metric"), ({"threshold": 0}, "threshold"), ({"for": 3}, "for"), ({"clear": 0.9}, "body")],
)
async def test_a_wrong_rule_is_refused(http: httpx.AsyncClient, wrong: dict[str, Any], field: str) -> None:
    answer = await http.put("/rules/full", json={"metric": "memory", "threshold": 0.9} | wrong)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == field


async def test_alerts_can_be_asked_for_by_app_and_state(http: httpx.AsyncClient) -> None:
    assert (await http.get("/alerts", params={"app": "notes", "state": "firing"})).json()["items"] == []
    assert (await http.get("/alerts", params={"state": "loud"})).status_code == 422


async def test_ready_says_that_the_deployer_is_silent(http: httpx.AsyncClient) -> None:
    for _ in range(100):
        ready = await http.get("/ready")
        if ready.status_code == 503:
            break
        await asyncio.sleep(0.05)
    assert ready.json() == {"ready": False, "problems": {"deployer": "deployer does not answer: ConnectError"}}


async def test_every_operation_wants_the_token_and_is_described(http: httpx.AsyncClient) -> None:
    paths = (await http.get("/openapi.json")).json()["paths"]
    own = {
        (method, path): operation
        for path, item in paths.items()
        for method, operation in item.items()
        if path.startswith(("/instances", "/alerts", "/rules"))
    }
    assert len(own) == 7
    for (method, path), operation in own.items():
        assert operation["summary"] and operation["description"]
        assert (await http.request(method, path, headers={"Authorization": "Bearer wrong"})).status_code == 401
