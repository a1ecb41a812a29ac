"""OFREP over HTTP: one flag, all flags, the stream of changes; what an app's token may do."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis

from services.flags.auth import app_token, stream_ticket
from services.flags.cache import FlagCache
from services.flags.store import FlagStore
from shared.clock import now
from shared.models import Environment
from shared.security.auth import derived_secret
from tests.support.flags_stack import (
    SWITCH,
    TOKEN,
    client_of,
    copy_of_the_service,
    evaluate,
    served,
)

pytestmark = pytest.mark.anyio

PRODUCTION, CANARY = Environment
ALL = "/ofrep/v1/evaluate/flags"


async def test_ofrep_takes_no_context_and_an_empty_one(http: httpx.AsyncClient) -> None:
    await http.put("/flags/k", json=SWITCH)
    bodies: list[dict[str, Any]] = [{}, {"json": {}}, {"json": {"context": {}}}]
    for arguments in bodies:
        answer = await http.post("/ofrep/v1/evaluate/flags/k", **arguments)
        assert (answer.status_code, answer.json()["value"]) == (200, True), answer.text


async def test_a_disabled_flag_leaves_the_value_to_the_client(http: httpx.AsyncClient, redis: Redis) -> None:
    await http.put("/flags/k", json=SWITCH | {"state": "DISABLED"})
    assert await evaluate(http) == {"key": "k", "variant": None, "reason": "DISABLED", "metadata": {}}
    assert await redis.get("flag:k") == "0"


async def test_ofreps_errors(http: httpx.AsyncClient) -> None:
    await http.put("/flags/k", json=SWITCH | {"targeting": {"if": [{"/": [1, {"var": "n"}]}, "off"]}})
    cases: list[tuple[str, dict[str, Any], int, str]] = [
        ("none", {"json": {}}, 404, "FLAG_NOT_FOUND"),
        ("a:b", {"json": {}}, 404, "FLAG_NOT_FOUND"),
        ("k", {"json": {"context": {"n": 0}}}, 400, "GENERAL"),
        ("k", {"json": {"context": {"targetingKey": 1}}}, 400, "INVALID_CONTEXT"),
        ("k", {"json": {"context": "me"}}, 400, "INVALID_CONTEXT"),
        ("k", {"content": "{", "headers": {"Content-Type": "application/json"}}, 400, "PARSE_ERROR"),
    ]
    for key, arguments, status, code in cases:
        answer = await http.post(f"/ofrep/v1/evaluate/flags/{key}", **arguments)
        body = answer.json()
        assert (answer.status_code, body["errorCode"], body["key"]) == (status, code, key), body
        assert body["errorDetails"]


async def test_all_flags_at_once(http: httpx.AsyncClient) -> None:
    await http.put("/flags/fine", json=SWITCH)
    await http.put("/flags/broken", json=SWITCH | {"targeting": {"/": [1, 0]}})
    answer = await http.post("/ofrep/v1/evaluate/flags", json={"context": {}})
    flags = {flag["key"]: flag for flag in answer.json()["flags"]}
    assert (flags["fine"]["value"], flags["broken"]["errorCode"]) == (True, "GENERAL")


async def test_an_apps_token_evaluates_in_its_environment_and_does_nothing_else(
    http: httpx.AsyncClient, app: Any
) -> None:
    await http.put("/flags/k", json=SWITCH)
    await http.patch("/flags/k", json={"defaultVariant": "off"}, params={"environment": "canary"})
    tokens = {env: f"{env}.{derived_secret(TOKEN, f'flags:{env}')}" for env in ("production", "canary")}
    async with client_of(app, tokens["canary"]) as canary:
        assert (await evaluate(canary))["value"] is False
        for method, path in [("GET", "/flags"), ("PUT", "/flags/k"), ("DELETE", "/flags/k"), ("GET", "/ready")]:
            assert (await canary.request(method, path)).status_code == 401
        path = "/ofrep/v1/evaluate/flags/k"
        assert (await canary.post(path, params={"environment": "production"})).json()["value"] is False
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://flags") as bare:
        assert (await bare.post(path, headers={"X-API-Key": tokens["production"]})).json()["value"] is True
        assert (await bare.post(path)).status_code == 401
        mixed = "production." + tokens["canary"].partition(".")[2]
        assert (await bare.post(path, headers={"X-API-Key": mixed})).status_code == 401
    assert (await http.post(path, params={"environment": "canary"})).json()["value"] is False


async def test_the_etag_of_all_flags_is_another_with_every_change_and_context(http: httpx.AsyncClient) -> None:
    await http.put("/flags/k", json=SWITCH)

    async def etag(context: dict[str, Any], **params: str) -> str:
        answer = await http.post(ALL, json={"context": context}, params=params)
        assert answer.status_code == 200
        return answer.headers["etag"]

    first = await etag({"targetingKey": "ann"})
    assert first == await etag({"targetingKey": "ann"})
    await http.patch("/flags/k", json={"defaultVariant": "off"}, params={"environment": "canary"})
    assert first == await etag({"targetingKey": "ann"})  # another environment's change
    tags = [first, await etag({"targetingKey": "bob"}), await etag({"targetingKey": "ann"}, environment="canary")]
    for body in ({"defaultVariant": "off"}, {"metadata": {"owner": "ann"}}, {"targeting": {"if": [True, "on"]}}):
        await http.patch("/flags/k", json=body)
        tags.append(await etag({"targetingKey": "ann"}))
    await http.delete("/flags/k")
    tags.append(await etag({"targetingKey": "ann"}))
    assert len(set(tags)) == len(tags)


async def test_all_flags_are_told_again_only_if_they_are_others(http: httpx.AsyncClient) -> None:
    await http.put("/flags/k", json=SWITCH)
    first = await http.post(ALL, json={"context": {}})
    assert first.json()["metadata"] == {"environment": "production"}
    for held in (first.headers["etag"], f'"x", {first.headers["etag"]}', f"W/{first.headers['etag']}", "*"):
        again = await http.post(ALL, json={"context": {}}, headers={"If-None-Match": held})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first.headers["etag"])
    await http.patch("/flags/k", json={"defaultVariant": "off"})
    changed = await http.post(ALL, json={"context": {}}, headers={"If-None-Match": first.headers["etag"]})
    assert (changed.status_code, changed.json()["flags"][0]["value"]) == (200, False)


async def test_all_flags_are_evaluated_in_slices_and_are_those_of_one_moment(http: httpx.AsyncClient) -> None:
    flags = {f"k{number}": SWITCH | {"targeting": {"if": [{"var": "x"}, "off"]}} for number in range(1000)}
    await http.post("/import", json={"flags": {"other": SWITCH} | flags})
    before = await http.post(ALL, json={"context": {}})
    asking = asyncio.create_task(http.post(ALL, json={"context": {}}))
    await asyncio.sleep(0)  # without slices it would be answered now: the transport of the test waits for nothing
    assert (await evaluate(http, "other"))["value"] is True
    assert not asking.done()
    assert (await http.patch("/flags/k0", json={"defaultVariant": "off"})).status_code == 200
    during = await asking
    assert (during.content, during.headers["etag"]) == (before.content, before.headers["etag"])
    after = await http.post(ALL, json={"context": {}}, headers={"If-None-Match": before.headers["etag"]})
    assert (after.status_code, after.json()["flags"][0]["value"]) == (200, False)


async def test_a_rule_that_goes_by_the_time_is_not_said_to_hold_when_its_time_has_come(http: httpx.AsyncClient) -> None:
    turn = int(time.time()) + 2
    await http.put("/flags/k", json=SWITCH | {"targeting": {"if": [{"<": [{"var": "$flagd.timestamp"}, turn]}, "off"]}})
    before = await http.post(ALL, json={"context": {}})
    assert before.json()["flags"][0]["value"] is False
    await asyncio.sleep(2.1)
    after = await http.post(ALL, json={"context": {}}, headers={"If-None-Match": before.headers["etag"]})
    assert (after.status_code, after.json()["flags"][0]["value"]) == (200, True)


async def test_a_copy_that_was_told_later_than_its_client_looks_before_it_answers(redis: Redis) -> None:
    caches = [FlagCache(FlagStore(redis), now) for _ in range(2)]
    for cache in caches:
        await cache.refresh()
    mine, other = (copy_of_the_service(cache, FlagStore(redis), redis) for cache in caches)
    async with client_of(mine) as here, client_of(other) as there:
        await here.put("/flags/k", json=SWITCH)
        assert (await there.post(ALL)).json()["flags"] == []
        etag = caches[0].snapshot(PRODUCTION).etag
        assert len((await there.post(ALL, params={"flagConfigEtag": etag})).json()["flags"]) == 1


async def test_a_context_that_is_none_is_an_error_of_the_whole(http: httpx.AsyncClient) -> None:
    answer = await http.post(ALL, json={"context": {"targetingKey": 1}})
    assert (answer.status_code, answer.json()["errorCode"]) == (400, "INVALID_CONTEXT")
    assert "key" not in answer.json()


# --- the stream -----------------------------------------------------------------------------------------------------


class Listener:
    """A client of the stream: `events` are (id, data)."""

    def __init__(self) -> None:
        self.events: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()

    async def listen(self, url: str, headers: dict[str, str]) -> None:
        """Until the server ends the stream."""
        event: dict[str, str] = {}
        async with (
            httpx.AsyncClient(timeout=None, verify=False) as client,
            client.stream("GET", url, headers=headers) as answer,
        ):
            assert answer.status_code == 200, await answer.aread()
            assert answer.headers["content-type"].startswith("text/event-stream")
            async for line in answer.aiter_lines():
                name, _, value = line.partition(": ")
                if name:
                    event[name] = value
                elif event:
                    assert event["event"] == "message"
                    self.events.put_nowait((event["id"], json.loads(event["data"])))
                    event = {}

    async def next(self) -> tuple[str, Any]:
        return await asyncio.wait_for(self.events.get(), 20)


def listening(url: str, headers: dict[str, str] | None = None) -> tuple[Listener, asyncio.Task[None]]:
    listener = Listener()
    return listener, asyncio.create_task(listener.listen(url, headers or {}))


@pytest.fixture
async def url(app: Any) -> AsyncIterator[str]:
    async with served(app) as address:
        yield address


def management(url: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(verify=False, base_url=url, headers={"Authorization": f"Bearer {TOKEN}"})


async def test_streams_tell_a_change_of_their_environment(url: str) -> None:
    by_token = {"X-API-Key": app_token(TOKEN, PRODUCTION)}
    canarys = {"Authorization": f"Bearer {app_token(TOKEN, CANARY)}"}
    async with management(url) as api:
        await api.put("/flags/k", json=SWITCH)
        streams = [listening(f"{url}/ofrep/v1/stream", by_token) for _ in range(20)]
        other, other_task = listening(f"{url}/ofrep/v1/stream", canarys)
        firsts = [await listener.next() for listener, _ in streams]
        await other.next()
        for variant in ("off", "on", "off"):
            await api.patch("/flags/k", json={"defaultVariant": variant}, params={"environment": "production"})
            told = [await listener.next() for listener, _ in streams]
            for event_id, data in told:
                assert data["type"] == "refetchEvaluation"
                assert data["etag"] == f'"{event_id}"'
                assert abs(data["lastModified"] - datetime.now(UTC).timestamp()) < 5
            assert {event_id for event_id, _ in told}.isdisjoint(event_id for event_id, _ in firsts)
            firsts = told
        await asyncio.sleep(0.3)
        assert other.events.empty()
        for task in [other_task, *(task for _, task in streams)]:
            task.cancel()
        assert (await api.get("/ready")).json() == {"ready": True, "problems": {}, "warnings": {}}


async def test_the_address_that_all_flags_come_with_is_a_stream_and_nothing_else(url: str) -> None:
    async with httpx.AsyncClient(verify=False, base_url=url) as app, management(url) as api:
        answer = await app.post(ALL, headers={"X-API-Key": app_token(TOKEN, CANARY)})
        [stream] = answer.json()["eventStreams"]
        assert stream["type"] == "sse" and stream["url"].startswith(f"{url}/ofrep/v1/stream?")
        listener, task = listening(stream["url"])  # as EventSource: no header at all
        await listener.next()
        await api.put("/flags/k", json=SWITCH, params={"environment": "canary"})
        assert (await listener.next())[1]["type"] == "refetchEvaluation"
        task.cancel()
        ticket = httpx.URL(stream["url"]).params["ticket"]
        for method, path in [("POST", ALL), ("GET", "/flags"), ("GET", "/")]:
            for how in ({"params": {"ticket": ticket}}, {"headers": {"X-API-Key": ticket}}):
                assert (await app.request(method, path, **how)).status_code == 401  # type: ignore[arg-type]
        wrong = stream_ticket("other", CANARY)
        assert (await app.get("/ofrep/v1/stream", params={"ticket": wrong})).status_code == 401


async def test_a_stream_begins_with_what_its_client_does_not_know(url: str) -> None:
    headers = {"Authorization": f"Bearer {app_token(TOKEN, PRODUCTION)}"}
    async with management(url) as api:
        first, task = listening(f"{url}/ofrep/v1/stream", headers)
        event_id, _ = await first.next()
        task.cancel()
        again, task = listening(f"{url}/ofrep/v1/stream", headers | {"Last-Event-ID": event_id})
        await asyncio.sleep(0.3)
        assert again.events.empty()
        task.cancel()
        await api.put("/flags/k", json=SWITCH)
        late, task = listening(f"{url}/ofrep/v1/stream", headers | {"Last-Event-ID": event_id})
        assert (await late.next())[0] != event_id
        task.cancel()


async def test_another_copys_changes_reach_the_stream(url: str, redis: Redis) -> None:
    other = FlagCache(FlagStore(redis), now)
    listener, task = listening(f"{url}/ofrep/v1/stream", {"Authorization": f"Bearer {app_token(TOKEN, PRODUCTION)}"})
    seen = {(await listener.next())[0]}
    async with client_of(copy_of_the_service(other, FlagStore(redis), redis)) as http:
        for number in range(9):
            await http.put("/flags/k", json=SWITCH | {"metadata": {"number": number}})
            seen.add((await listener.next())[0])
    assert len(seen) == 10
    task.cancel()


async def test_a_change_that_nobody_announced_reaches_the_stream_by_its_version(url: str, redis: Redis) -> None:
    listener, task = listening(f"{url}/ofrep/v1/stream", {"Authorization": f"Bearer {app_token(TOKEN, PRODUCTION)}"})
    await listener.next()
    async with management(url) as api:
        await api.put("/flags/k", json=SWITCH)
        await listener.next()
    await redis.hdel("flags:flag:production", "k")
    await redis.incr("flags:version")
    await listener.next()
    task.cancel()
