"""The monitor's REST, and the whole service beside a deployer and a proxy that are not there."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from services.monitor.config import Settings
from services.monitor.main import build_app
from services.monitor.samples.downsampling import rolled, start_of
from services.monitor.samples.sample import Sample, Watched
from services.monitor.samples.sample_store import SampleStore
from services.monitor.samples.traffic_sample import ReleaseSample, TrafficSample
from shared.models import Environment, InstanceState
from tests.support.ports import free_port

pytestmark = pytest.mark.anyio


@dataclass(frozen=True)
class Past:
    """Samples from `at` on, and what a client asks for them with."""

    at: datetime

    def after(self, seconds: float) -> datetime:
        return self.at + timedelta(seconds=seconds)

    def watched(self, seconds: float, cpu: float) -> Watched:
        sample = Sample(at=self.after(seconds), cpu=cpu, working_set=10, memory_limit=40, memory=0.25)
        return Watched(
            **{"id": "notes-r9-1", "app": "notes", "environment": Environment.CANARY, "release": "notes-r9"},
            **{"component": "web", "state": InstanceState.READY, "started_at": self.at, "sample": sample},
        )

    def span(self, begin_s: float, end_s: float, step: int = 2) -> dict[str, str]:
        return {"from": self.after(begin_s).isoformat(), "to": self.after(end_s).isoformat(), "step": str(step)}


@pytest.fixture
def past() -> Past:
    """Counted from the test, not from the import: a suite takes long, and samples are kept whole for an hour."""
    at = start_of(datetime.now(UTC) - timedelta(minutes=40), 60)
    if at.minute > 55:  # so that what a test stores lies in one hour
        at -= timedelta(minutes=10)
    return Past(at)


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


async def test_instances_and_their_samples(http: httpx.AsyncClient, redis: Redis, past: Past) -> None:
    await SampleStore(redis).add([past.watched(second, second) for second in range(0, 60, 2)])
    [instance] = (await http.get("/instances", params={"app": "notes"})).json()["items"]
    assert (instance["id"], instance["sample"]["cpu"]) == ("notes-r9-1", 58)
    assert (await http.get("/instances", params={"app": "other"})).json()["items"] == []

    every = (await http.get("/instances/notes-r9-1/samples", params=past.span(0, 59))).json()["items"]
    assert [item["cpu"] for item in every] == list(range(58, -1, -2))
    assert every[0]["spread"] is None
    thinned = (await http.get("/instances/notes-r9-1/samples", params=past.span(0, 59, 20))).json()["items"]
    assert [item["cpu"] for item in thinned] == [58, 38, 18]
    assert thinned[0]["spread"]["cpu"] == {"min": 40, "max": 58, "avg": 49, "last": 58}
    later = await http.get("/instances/notes-r9-1/samples", params=past.span(600, 660))
    assert later.json() == {"items": [], "next": None}

    swapped = await http.get("/instances/notes-r9-1/samples", params=past.span(60, 0))
    assert (swapped.status_code, swapped.json()["errors"][0]["field"]) == (422, "from")
    assert (await http.get("/instances/nobody/samples")).status_code == 404
    assert (await http.get("/instances/nobody/samples", params={"from": "yesterday"})).status_code == 422


async def test_what_is_older_than_an_hour_is_told_by_minutes(http: httpx.AsyncClient, redis: Redis, past: Past) -> None:
    store, old_s = SampleStore(redis), -5 * 3600
    for first in (old_s, 0):
        samples = [past.watched(first + second, second).sample for second in range(0, 180, 2)]
        await store.add_rollups(rolled("notes-r9-1", samples, 60))
    await store.add([past.watched(second, second) for second in range(60, 240, 2)])  # a minute more than is rolled up

    old = (await http.get("/instances/notes-r9-1/samples", params=past.span(old_s + 30, old_s + 130))).json()["items"]
    assert [item["cpu"] for item in old] == [178, 118, 58]
    assert old[0]["spread"]["cpu"] == {"min": 120, "max": 178, "avg": 149, "last": 178}
    new = (await http.get("/instances/notes-r9-1/samples", params=past.span(0, 240, 60))).json()["items"]
    assert [item["cpu"] for item in new] == [238, 178, 118, 58]
    day = (await http.get("/instances/notes-r9-1/samples", params=past.span(-86400, 240, 3600))).json()["items"]
    assert [item["cpu"] for item in day] == [238, 178]
    assert datetime.fromisoformat(day[1]["at"]) == start_of(past.after(old_s), 3600)


async def test_a_releases_traffic(http: httpx.AsyncClient, redis: Redis, past: Past) -> None:
    def answered(second: int) -> ReleaseSample:
        figures = {"requests": 20, "errors": 1, "request_rate": 10.0, "error_rate": 0.5, "p99_ms": None}
        at, p95 = past.after(second), float(second)
        return ReleaseSample(release="notes-r9", sample=TrafficSample(at=at, p50_ms=3.2, p95_ms=p95, **figures))

    await SampleStore(redis).add_traffic([answered(second) for second in range(0, 60, 2)])
    raw = (await http.get("/releases/notes-r9/samples", params=past.span(0, 3))).json()["items"]
    assert [(item["requests"], item["p95_ms"]) for item in raw] == [(20, 2.0), (20, 0.0)]
    [minute] = (await http.get("/releases/notes-r9/samples", params=past.span(0, 60, 60))).json()["items"]
    assert (minute["requests"], minute["errors"], minute["request_rate"]) == (600, 30, 10.0)
    assert (minute["p95_ms"], minute["spread"]["p95_ms"]["avg"], minute["p99_ms"]) == (58.0, 29.0, None)
    unknown = await http.get("/releases/notes-r1/samples")
    assert unknown.status_code == 404
    assert "GET /instances lists" in unknown.json()["detail"]


async def test_rules_are_there_without_setup_and_can_be_set(http: httpx.AsyncClient) -> None:
    names = [rule["name"] for rule in (await http.get("/rules")).json()["items"]]
    assert names == ["MemoryAtCap", "cpu", "errors", "health", "latency", "memory", "restarts", "samples"]
    body = {"metric": "memory", "threshold": 0.9, "clear": 0.8, "for_s": 30}
    put = await http.put("/rules/full", json=body)
    unset = {"aborts": False, "enabled": True, "keep_firing_for_s": 0, "app": None, "environment": None}
    assert put.json() == body | unset | {"name": "full"}
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
    [
        ({"metric": "luck"}, "metric"),
        ({"threshold": 0}, "threshold"),
        ({"for": 3}, "for"),
        ({"clear": 0.9}, "body"),
        ({"app": "No App"}, "app"),
        ({"environment": "stage"}, "environment"),
    ],
)
async def test_a_wrong_rule_is_refused(http: httpx.AsyncClient, wrong: dict[str, Any], field: str) -> None:
    answer = await http.put("/rules/full", json={"metric": "memory", "threshold": 0.9} | wrong)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == field


async def test_alerts_can_be_asked_for_by_app_and_state(http: httpx.AsyncClient) -> None:
    assert (await http.get("/alerts", params={"app": "notes", "state": "firing"})).json()["items"] == []
    assert (await http.get("/alerts", params={"environment": "production"})).json()["items"] == []
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
        if path.startswith(("/instances", "/releases", "/alerts", "/rules"))
    }
    assert len(own) == 8
    for (method, path), operation in own.items():
        assert operation["summary"] and operation["description"]
        assert (await http.request(method, path, headers={"Authorization": "Bearer wrong"})).status_code == 401
