"""The flags service over HTTP, with a real Redis: REST, OFREP, who may do what, and life without Redis."""

import shutil
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis

from services.flags.cache import FlagCache
from services.flags.main import build_app
from services.flags.store import FlagStore
from shared.clock import now
from shared.store import RedisError, connect
from tests.support.flags_stack import SWITCH, client_of, copy_of_the_service, evaluate, running, settings_for
from tests.support.proxy.proxy_stack import OwnRedis, until

pytestmark = pytest.mark.anyio


async def test_a_flag_from_its_making_to_its_end(http: httpx.AsyncClient, redis: Redis) -> None:
    made = await http.put("/flags/set-message", json=SWITCH)
    assert made.status_code == 200, made.text
    assert made.json() | SWITCH == made.json()
    assert (made.json()["key"], made.json()["environment"]) == ("set-message", "production")
    assert (await evaluate(http, "set-message")) == {
        "key": "set-message",
        "value": True,
        "variant": "on",
        "reason": "STATIC",
        "metadata": {},
    }
    switched = await http.patch("/flags/set-message", json={"defaultVariant": "off"})
    assert switched.json()["defaultVariant"] == "off"
    assert (await evaluate(http, "set-message"))["value"] is False
    assert await redis.mget("flag:set-message", "flag:canary:set-message") == ["0", "0"]
    listed = (await http.get("/flags", params={"environment": "canary"})).json()
    assert [item["key"] for item in listed["items"]] == ["set-message"]
    assert listed["next"] is None
    assert (await http.delete("/flags/set-message")).status_code == 204
    assert (await http.get("/flags/set-message")).status_code == 404
    assert (await http.delete("/flags/set-message")).status_code == 404
    assert (await http.patch("/flags/set-message", json={"state": "DISABLED"})).status_code == 404

    page = (await http.get("/flags/set-message/history", params={"limit": 4})).json()
    assert [entry["after"] and entry["after"]["defaultVariant"] for entry in page["items"]] == [
        None,
        None,
        "off",
        "off",
    ]
    assert {entry["actor"] for entry in page["items"]} == {"platform"}
    rest = (await http.get("/flags/set-message/history", params={"cursor": page["next"]})).json()
    assert [entry["before"] for entry in rest["items"]] == [None, None]
    assert rest["next"] is None
    assert (await http.get("/flags/never/history")).status_code == 404


async def test_the_list_has_pages_of_the_flags_last_changed_first(http: httpx.AsyncClient) -> None:
    flags = {f"k{number:03}": SWITCH for number in range(205)}  # imported: all changed at one time
    assert (await http.post("/import", json={"flags": flags})).status_code == 200
    await http.patch("/flags/k100", json={"defaultVariant": "off"})
    whole = (await http.get("/flags")).json()
    assert (len(whole["items"]), whole["items"][0]["key"]) == (200, "k100")
    seen: list[str] = []
    cursor = None
    while cursor is not None or not seen:
        page = (await http.get("/flags", params={"limit": 100} | ({"cursor": cursor} if cursor else {}))).json()
        seen += [flag["key"] for flag in page["items"]]
        cursor = page["next"]
    assert seen == ["k100", *(key for key in sorted(flags, reverse=True) if key != "k100")]
    assert [item["key"] for item in whole["items"]] == seen[:200]
    rest = (await http.get("/flags", params={"cursor": whole["next"]})).json()
    assert ([item["key"] for item in rest["items"]], rest["next"]) == (seen[200:], None)
    for params in ({"cursor": "x"}, {"cursor": "1"}, {"limit": 0}, {"limit": 201}):
        assert (await http.get("/flags", params=params)).status_code == 422


async def test_environments_are_apart(http: httpx.AsyncClient) -> None:
    await http.put("/flags/k", json=SWITCH, params={"environment": "canary"})
    assert (await http.get("/flags/k")).status_code == 404
    assert (await http.get("/flags/k", params={"environment": "canary"})).json()["environment"] == "canary"
    patched = await http.patch("/flags/k", json={"defaultVariant": "off"})
    assert patched.json()["environment"] == "canary"
    assert (await http.get("/flags/k", params={"environment": "staging"})).status_code == 422


@pytest.mark.parametrize("key", ["a:b", "events", "a b", "ä", "x" * 129])
async def test_a_key_that_cannot_be_mirrored_is_refused(http: httpx.AsyncClient, key: str) -> None:
    answer = await http.put(f"/flags/{key}", json=SWITCH)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "path.key"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (SWITCH | {"defaultVariant": "maybe"}, "defaultVariant"),
        (SWITCH | {"targeting": {"if": [{"wat": []}, "on"]}}, "targeting.if.0.wat"),
        (SWITCH | {"metadata": {"mirror": "a:b"}}, "metadata.mirror"),
        (SWITCH | {"state": "on"}, "state"),
        (SWITCH | {"enabled": True}, "enabled"),
    ],
)
async def test_a_malformed_flag_is_refused_with_the_path_to_its_fault(
    http: httpx.AsyncClient, body: dict[str, Any], field: str
) -> None:
    answer = await http.put("/flags/k", json=body)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == field
    assert (await http.get("/flags")).json()["items"] == []


async def test_a_patch_is_checked_as_a_whole(http: httpx.AsyncClient) -> None:
    await http.put("/flags/k", json=SWITCH)
    answer = await http.patch("/flags/k", json={"variants": {"on": None}})
    assert answer.status_code == 422
    assert (await http.get("/flags/k")).json()["variants"] == SWITCH["variants"]


async def test_a_nested_bomb_is_refused(http: httpx.AsyncClient) -> None:
    await http.put("/flags/k", json=SWITCH)
    deep = '{"a":' * 50_000 + "1" + "}" * 50_000
    headers = {"Content-Type": "application/json"}
    put = await http.put("/flags/k", content='{"targeting":' + deep + "}", headers=headers)
    assert put.status_code in (400, 422)
    asked = await http.post("/ofrep/v1/evaluate/flags/k", content='{"context":' + deep + "}", headers=headers)
    assert asked.status_code == 400
    assert asked.json().get("errorDetails"), asked.text


async def test_another_copy_of_the_service_sees_a_change(redis: Redis) -> None:
    mine, other = FlagCache(FlagStore(redis), now), FlagCache(FlagStore(redis), now)
    await other.refresh()
    async with client_of(copy_of_the_service(mine, FlagStore(redis), redis)) as http:
        await http.put("/flags/k", json=SWITCH)
        assert (await evaluate(http))["value"] is True
    async with client_of(copy_of_the_service(other, FlagStore(redis), redis)) as http:
        assert (await evaluate(http))["errorCode"] == "FLAG_NOT_FOUND"
        await other.refresh()
        assert (await evaluate(http))["value"] is True


class FailingStore(FlagStore):
    """A store whose server can go away."""

    away = False

    async def since(self, *args: Any) -> Any:
        if self.away:
            raise RedisError("away")
        return await super().since(*args)

    async def change(self, *args: Any, **kwargs: Any) -> Any:
        if self.away:
            raise RedisError("away")
        return await super().change(*args, **kwargs)


async def test_without_redis_evaluation_goes_on_and_writes_say_so(redis: Redis) -> None:
    store = FailingStore(redis)
    cache = FlagCache(store, now)
    async with client_of(copy_of_the_service(cache, store, redis)) as http:
        early = await http.post("/ofrep/v1/evaluate/flags/k")
        assert (early.status_code, early.json()["errorCode"]) == (503, "GENERAL")
        assert (await http.get("/flags")).status_code == 503
        assert (await http.get("/ready")).json()["problems"] == {"flags": "the flags have not been read from Redis yet"}
        await http.put("/flags/k", json=SWITCH)
        assert (await http.get("/ready")).status_code == 200
        store.away = True
        with pytest.raises(RedisError):
            await cache.refresh()
        assert (await evaluate(http)) | {"value": True, "metadata": {"stale": True}} == await evaluate(http)
        refused = await http.patch("/flags/k", json={"defaultVariant": "off"})
        assert refused.status_code == 503
        assert "Redis" in refused.json()["detail"]
        store.away = False
        await cache.refresh()
        assert (await evaluate(http))["metadata"] == {}


@pytest.mark.parametrize("lost", [False, True])
async def test_two_copies_go_on_when_redis_has_been_killed_also_without_its_data(tmp_path: Path, lost: bool) -> None:
    folder = tmp_path / "redis"
    folder.mkdir()
    server = OwnRedis(folder)
    try:
        apps = [build_app(settings_for(tmp_path / name, server.url)) for name in ("one", "two")]
        async with running(apps[0]) as one, running(apps[1]) as two:

            async def written() -> bool:
                return (await one.put("/flags/k", json=SWITCH | {"defaultVariant": "off"})).status_code == 200

            async def seen() -> bool:
                return ("value", False) in (await evaluate(two)).items()

            async def seen_at_first() -> bool:
                return ("value", True) in (await evaluate(two, "other")).items()

            async def has_app_user() -> bool:
                async with connect(server.url) as client:
                    return await client.acl_getuser("app") is not None

            await one.put("/flags/k", json=SWITCH)
            await one.put("/flags/other", json=SWITCH)
            await until(seen_at_first, 20)
            server.kill()
            if lost:
                shutil.rmtree(folder / "appendonlydir")
            server.start()
            await until(written, 20)
            await until(seen, 20)
            assert (await evaluate(two, "other")).get("value") is (None if lost else True)
            await until(has_app_user, 20)
    finally:
        server.kill()


async def test_the_service_is_ready_and_describes_itself(http: httpx.AsyncClient, redis: Redis) -> None:
    ready = await http.get("/ready")
    assert (ready.status_code, ready.json()["problems"]) == (200, {})
    document = (await http.get("/openapi.json")).json()
    operations = [
        operation
        for path, item in document["paths"].items()
        for operation in item.values()
        if path.startswith(("/flags", "/ofrep", "/export", "/import")) or path == "/"
    ]
    assert len(operations) == 13
    for operation in operations:
        assert operation["summary"] and operation["description"]
        assert operation.get("security") != []
