"""The monitor's REST, and the whole service beside a deployer and a proxy that are not there."""

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from html import unescape
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr
from redis.asyncio import Redis

from services.monitor.alerts.alert import Alert, AlertState
from services.monitor.alerts.alert_store import AlertStore
from services.monitor.config import Settings
from services.monitor.main import build_app
from services.monitor.samples.downsampling import rolled, start_of
from services.monitor.samples.sample import Sample, Watched
from services.monitor.samples.sample_cache import SampleCache
from services.monitor.samples.sample_store import SampleStore
from services.monitor.samples.traffic_sample import ReleaseSample, TrafficSample
from services.monitor.scaling.policy_store import PolicyStore
from shared.models import Environment, InstanceState
from tests.support.monitor.scaled import change
from tests.support.monitor.service import started
from tests.support.paging import refused, walked
from tests.support.ports import free_port

pytestmark = pytest.mark.anyio
HTML = {"Accept": "text/html"}


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
def app(tmp_path: Path, redis_server: str, redis: Redis) -> FastAPI:
    settings = Settings(home=tmp_path, token=SecretStr("token"), redis_url=redis_server)
    settings.deployer_port, settings.proxy_port = free_port(), free_port()
    return build_app(settings)


@pytest.fixture
async def http(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with started(app) as client:
        yield client


async def test_instances_and_their_samples(app: FastAPI, redis: Redis, past: Past) -> None:
    await SampleStore(redis).add([past.watched(second, second) for second in range(0, 60, 2)])
    async with started(app) as http:
        await instances_and_their_samples(http, past)


async def instances_and_their_samples(http: httpx.AsyncClient, past: Past) -> None:
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
    assert later.json() == {"items": [], "next": None, "step": 2}

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


async def test_a_time_range_is_cut_to_what_is_kept_and_the_steps_of_a_long_one_are_longer(
    http: httpx.AsyncClient, redis: Redis, past: Past
) -> None:
    store, path = SampleStore(redis), "/instances/notes-r9-1/samples"
    await store.add([past.watched(second, 1) for second in range(0, 1800, 2)])
    samples = [past.watched(60 * minute, minute).sample for minute in range(-1440, 1)]
    await store.add_rollups(rolled("notes-r9-1", samples, 60))

    async def asked(**params: str) -> tuple[int, int]:
        answer = await http.get(path, params=params)
        assert answer.status_code == 200, answer.text
        return len(answer.json()["items"]), answer.json()["step"]

    items, step = await asked(step="1")  # the last hour, of which half an hour is there
    assert step == 4 and 440 <= items <= 451
    begin, end = past.after(0).isoformat(), past.after(1799).isoformat()
    assert await asked(**{"from": begin, "to": end}) == (900, 2)
    day = await asked(**{"from": "0001-01-01T00:00:00Z", "to": "9999-12-31T23:59:59Z"})
    assert day[1] == 120 and 700 <= day[0] <= 750
    assert (await asked(**{"from": "2020-01-01T00:00:00Z", "step": "90"}))[1] == 120, "whole minutes"
    for outside in ("0001-01-01T00:00:01Z", "1960-01-01T00:00:00Z"):
        assert (await asked(to=outside))[0] == 0
    assert (await asked(**{"from": "9000-01-01T00:00:00Z", "to": "9001-01-01T00:00:00Z"}))[0] == 0
    late = await http.get(path, params={"from": "9000-01-01T00:00:00Z"})
    assert (late.status_code, late.json()["errors"][0]["field"]) == (422, "from")


def another(past: Past, app: str, number: int = 1, second: float = 0, cpu: float = 1) -> Watched:
    changes = {"id": f"{app}-r9-{number}", "app": app, "release": f"{app}-r9"}
    return past.watched(second, cpu).model_copy(update=changes)


async def test_instances_are_paged_and_their_page_shows_twenty_apps(app: FastAPI, redis: Redis, past: Past) -> None:
    apps = [f"app-{number:02}" for number in range(23)]
    await SampleStore(redis).add([another(past, each) for each in apps])
    samples = [past.watched(second, second).sample for second in range(0, 60, 2)]
    await SampleStore(redis).add_rollups(rolled("app-21-r9-1", samples, 60))
    for number in range(1, 6):
        decision = change(0, number=number, app="app-21", environment=Environment.CANARY, reason=f"reason {number}")
        await PolicyStore(redis).add(decision)
    async with started(app) as http:
        listed = [item["app"] for item in await walked(http, "/instances", limit=10)]
        assert listed == apps[::-1]
        assert await refused(http, "/instances", limit="101", cursor="app-1") == {"limit", "cursor"}
        first = (await http.get("/")).text
        assert "app-19-r9-1" in first and "app-20" not in first.replace('href="/?cursor=app-20"', "")
        [following] = re.findall(r'href="(/\?cursor=[^"]+)"', first)
        second = (await http.get(following)).text
        assert "app-20-r9-1" in second and "app-22-r9-1" in second and "app-19" not in second
        assert ", 58 %" in second, "the highest of the last hour"
        assert [f"reason {number}" in second for number in (1, 2, 3, 4, 5)] == [False, False, True, True, True]
        assert "cursor=" not in second


async def test_an_instance_is_listed_for_an_hour_after_its_last_sample(redis: Redis, past: Past) -> None:
    await SampleStore(redis).add([past.watched(0, 1), another(past, "other", second=1800)])
    cache = SampleCache(SampleStore(redis))
    for after_s, listed in ((0, ["other-r9-1", "notes-r9-1"]), (3601, ["other-r9-1"]), (5401, [])):
        assert [item.id for item in await cache.instances(past.after(after_s))] == listed


async def test_alerts_are_paged_also_while_some_change(app: FastAPI, redis: Redis, past: Past) -> None:
    def alert(number: int, state: AlertState) -> Alert:
        name = f"errors/notes/canary/notes-r{number}"
        at = past.after(number // 2)  # two of each second
        return Alert(
            **{"id": name, "rule": "errors", "app": "notes", "environment": Environment.CANARY},
            **{"release": f"notes-r{number}", "state": state, "reason": f"reason {number}", "active_at": at},
            **{"since": at, "threshold": 0.01, "aborts": False},
        )

    over = [alert(number, AlertState.RESOLVED) for number in range(40)]
    firing = [alert(number, AlertState.FIRING) for number in range(100, 160)]
    await AlertStore(redis).save({each.id: each for each in [*over, *firing]}, [])
    async with started(app) as http:
        while not (await http.get("/alerts")).json()["items"]:
            await asyncio.sleep(0.01)
        listed = [item["id"] for item in await walked(http, "/alerts", limit=7)]
        expected = sorted([*over, *firing], key=lambda each: (each.since, each.id), reverse=True)
        assert listed == [each.id for each in expected]
        assert await refused(http, "/alerts", limit="many", cursor="17") == {"limit", "cursor"}
        overview = (await http.get("/alerts", headers=HTML)).text
        assert "60 firing" in overview and "The newest 50 are shown" in overview
        assert "reason 110" in overview and "reason 109<" not in overview and "reason 9<" not in overview
        [older] = re.findall(r'href="(/alerts\?cursor=[^"]+)"', overview)
        rest = (await http.get(unescape(older), headers=HTML)).text
        assert all(f"reason {number}<" in rest for number in range(10)) and "reason 10<" not in rest
        some = (await http.get("/alerts?state=firing&limit=20", headers=HTML)).text
        [following] = re.findall(r'href="(/alerts\?[^"]+)">Older', some)
        assert "reason 139<" in (await http.get(unescape(following), headers=HTML)).text


async def test_rules_and_silences_are_paged(http: httpx.AsyncClient) -> None:
    names = [rule["name"] for rule in await walked(http, "/rules", limit=3)]
    assert names == ["MemoryAtCap", "analysis", "artifact", "cpu", "errors", "health", "memory", "restarts", "samples"]
    made = []
    for app in ("a", "b", "c"):
        answer = await http.post("/silences", json={"app": app, "duration_s": 60, "reason": "why"})
        made.append(answer.json()["id"])
    assert {item["id"] for item in await walked(http, "/silences", limit=1)} == set(made)
    assert await refused(http, "/rules", cursor="a b") == {"cursor"}
    assert await refused(http, "/silences", cursor="a") == {"cursor"}
    assert await refused(http, "/policies/notes/canary/decisions", limit="0", cursor="x") == {"limit", "cursor"}
    assert await refused(http, "/deliveries", limit="501", cursor="x") == {"limit", "cursor"}


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
    assert names == ["MemoryAtCap", "analysis", "artifact", "cpu", "errors", "health", "memory", "restarts", "samples"]
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
    problems = {"deployer": "deployer does not answer: ConnectError"}
    assert ready.json() == {"ready": False, "problems": problems, "warnings": {}}


async def test_every_operation_wants_the_token_and_is_described(http: httpx.AsyncClient) -> None:
    paths = (await http.get("/openapi.json")).json()["paths"]
    own = {
        (method, path): operation
        for path, item in paths.items()
        for method, operation in item.items()
        if path.startswith(("/instances", "/releases", "/alerts", "/rules"))
    }
    assert len(own) == 9
    for (method, path), operation in own.items():
        assert operation["summary"] and operation["description"]
        assert (await http.request(method, path, headers={"Authorization": "Bearer wrong"})).status_code == 401
