"""Two people at one flag, and all flags out and in, over HTTP."""

import asyncio
import contextlib
import gc
import json
import threading
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis

from services.flags.importer import Importer
from services.flags.store import FlagStore
from shared.clock import now
from shared.errors import Problem
from shared.events import STREAM
from shared.models import Environment
from shared.store import connect
from tests.support.flags_stack import SWITCH, TOKEN, evaluate

pytestmark = pytest.mark.anyio


RULE = {"if": [{"==": [{"var": "plan"}, "pro"]}, "on"]}
PRODUCTION, CANARY = {"environment": "production"}, {"environment": "canary"}


async def test_every_answer_with_a_flag_has_its_etag(http: httpx.AsyncClient) -> None:
    tags = [(await http.put("/flags/k", json=SWITCH)).headers["etag"]]
    assert (await http.get("/flags/k")).headers["etag"] == tags[0]
    tags.append((await http.patch("/flags/k", json={"defaultVariant": "off"})).headers["etag"])
    tags.append((await http.post("/flags/k/switch", params={"to": "on"})).headers["etag"])
    assert (await http.get("/flags/k")).headers["etag"] == tags[-1]
    tags.append((await http.get("/flags/k", params=PRODUCTION)).headers["etag"])
    tags.append((await http.get("/flags/k", params=CANARY)).headers["etag"])
    assert len(set(tags)) == 5


@pytest.mark.parametrize(
    ("method", "path", "arguments"),
    [
        ("PUT", "/flags/k", {"json": SWITCH | {"defaultVariant": "off"}}),
        ("PATCH", "/flags/k", {"json": {"defaultVariant": "off"}}),
        ("DELETE", "/flags/k", {}),
        ("POST", "/flags/k/switch", {"params": {"to": "off"}}),
    ],
)
async def test_of_two_people_the_second_is_told(
    http: httpx.AsyncClient, method: str, path: str, arguments: dict[str, Any]
) -> None:
    read = (await http.put("/flags/k", json=SWITCH)).headers["etag"]
    await http.patch("/flags/k", json={"metadata": {"owner": "ann"}})
    late = await http.request(method, path, headers={"If-Match": read}, **arguments)
    assert late.status_code == 412
    assert late.headers["content-type"] == "application/problem+json"
    assert "GET /flags/k again" in late.json()["detail"]
    now = await http.get("/flags/k")
    assert (now.json()["defaultVariant"], now.json()["metadata"]) == ("on", {"owner": "ann"})
    assert late.json()["etag"] == now.headers["etag"]
    again = await http.request(method, path, headers={"If-Match": now.headers["etag"]}, **arguments)
    assert again.is_success, again.text


async def test_one_environments_etag_is_not_enough_to_write_to_all(http: httpx.AsyncClient) -> None:
    await http.put("/flags/k", json=SWITCH)
    one = (await http.get("/flags/k", params=PRODUCTION)).headers["etag"]
    every = (await http.get("/flags/k")).headers["etag"]
    body = {"defaultVariant": "off"}
    assert (await http.patch("/flags/k", json=body, headers={"If-Match": one})).status_code == 412
    assert (await http.patch("/flags/k", json=body, headers={"If-Match": every}, params=CANARY)).status_code == 200
    assert (await http.patch("/flags/k", json=body, headers={"If-Match": one}, params=PRODUCTION)).status_code == 200


async def test_a_flag_is_made_only_if_there_is_none(http: httpx.AsyncClient) -> None:
    new = {"If-None-Match": "*"}
    assert (await http.put("/flags/k", json=SWITCH, headers=new, params=CANARY)).status_code == 200
    refused = await http.put("/flags/k", json=SWITCH, headers=new)
    assert refused.status_code == 412
    assert "already in canary" in refused.json()["detail"]
    assert (await http.put("/flags/k", json=SWITCH, headers=new, params=PRODUCTION)).status_code == 200
    assert (await http.put("/flags/none", json=SWITCH, headers={"If-Match": "*"})).status_code == 412


async def test_a_kill_switch_turns_off_what_rules_or_callers_would_leave_on(
    http: httpx.AsyncClient, redis: Redis
) -> None:
    await http.put("/flags/k", json=SWITCH | {"targeting": RULE})
    await http.post("/flags/k/switch", params={"to": "off"})
    assert (await evaluate(http, plan="pro"))["value"] is True  # the rules still decide first
    killed = await http.post("/flags/k/switch", params={"to": "off", "rules": "aside"})
    assert killed.json()["targeting"] == {"if": [False, RULE]}
    assert (await evaluate(http, plan="pro"))["value"] is False
    await http.post("/flags/k/switch", params={"to": "off", "rules": "back"})
    assert (await evaluate(http, plan="pro"))["value"] is True
    await http.put("/flags/k", json=SWITCH | {"state": "DISABLED"})
    assert "value" not in await evaluate(http)
    await http.post("/flags/k/switch", params={"to": "off"})
    assert (await evaluate(http))["value"] is False
    assert await redis.get("flag:k") == "0"
    wrong = await http.post("/flags/k/switch", params={"to": "maybe"})
    assert (wrong.status_code, wrong.json()["errors"][0]["field"]) == (422, "to")
    assert (await http.post("/flags/none/switch", params={"to": "off"})).status_code == 404


async def test_who_changed_a_flag_is_the_user_of_basic(http: httpx.AsyncClient) -> None:
    await http.put("/flags/k", json=SWITCH, headers={"Authorization": httpx.BasicAuth("ann", TOKEN)._auth_header})
    assert (await http.get("/flags/k")).json()["updated_by"] == "ann"
    await http.patch("/flags/k", json={"defaultVariant": "off"})
    history = (await http.get("/flags/k/history")).json()["items"]
    assert [entry["actor"] for entry in history] == ["platform", "platform", "ann", "ann"]


async def test_when_a_flag_was_last_evaluated(http: httpx.AsyncClient) -> None:
    assert (await http.put("/flags/k", json=SWITCH)).json()["evaluated_at"] is None
    await http.put("/flags/other", json=SWITCH)
    await evaluate(http)
    listed = {flag["key"]: flag["evaluated_at"] for flag in (await http.get("/flags")).json()["items"]}
    assert listed["k"] and not listed["other"]
    await http.post("/ofrep/v1/evaluate/flags")
    assert (await http.get("/flags/other")).json()["evaluated_at"] > listed["k"]
    assert (await http.get("/flags/other", params=CANARY)).json()["evaluated_at"] is None


async def test_all_flags_go_out_and_come_in_without_loss(http: httpx.AsyncClient, redis: Redis) -> None:
    named = {"metadata": {"mirror": "featureFlag"}}
    await http.put("/flags/b", json=SWITCH | {"targeting": RULE} | named)
    await http.put("/flags/a", json=SWITCH | {"state": "DISABLED", "defaultVariant": None}, params=PRODUCTION)
    one = (await http.get("/export")).json()
    assert list(one["flags"]) == ["a", "b"]
    every = (await http.get("/export", params={"environment": "all"})).json()
    assert every["environments"]["production"] == one
    same = (await http.post("/import", json=every, params={"mode": "replace"})).json()
    assert (same["items"], same["unchanged"]) == ([], 3)
    for key in ("a", "b"):
        await http.delete(f"/flags/{key}")
    assert await redis.exists("featureFlag") == 0
    back = (await http.post("/import", json=every)).json()
    assert {(item["environment"], item["key"], item["what"]) for item in back["items"]} == {
        ("production", "a", "made"),
        ("production", "b", "made"),
        ("canary", "b", "made"),
    }
    assert (await http.get("/export", params={"environment": "all"})).json() == every
    assert await redis.mget("featureFlag", "flag:canary:b") == ["1", "1"]


async def test_an_import_with_one_fault_writes_nothing(http: httpx.AsyncClient, redis: Redis) -> None:
    await http.put("/flags/old", json=SWITCH)
    before = (await redis.get("flags:version"), await redis.xlen(STREAM))
    wrong = SWITCH | {"targeting": {"if": [{"wat": []}, "on"]}, "defaultVariant": "maybe"}
    answer = await http.post("/import", json={"flags": {"fine": SWITCH, "wrong": wrong}}, params={"mode": "replace"})
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    fields = [error["field"] for error in answer.json()["errors"]]
    assert fields == ["flags.wrong.defaultVariant", "flags.wrong.targeting.if.0.wat"]
    assert [flag["key"] for flag in (await http.get("/flags")).json()["items"]] == ["old"]
    assert (await redis.get("flags:version"), await redis.xlen(STREAM)) == before


async def test_a_dry_run_says_what_would_change_and_changes_nothing(http: httpx.AsyncClient) -> None:
    await http.put("/flags/old", json=SWITCH)
    await http.put("/flags/both", json=SWITCH)
    document = {"flags": {"both": SWITCH | {"defaultVariant": "off"}, "new": SWITCH}}
    params = {"mode": "replace", "dry_run": "true"}
    imported = (await http.post("/import", json=document, params=params)).json()
    assert {item["key"]: item["what"] for item in imported["items"]} == {
        "both": "changed",
        "new": "made",
        "old": "deleted",
    }
    assert (await http.get("/flags/both")).json()["defaultVariant"] == "on"
    done = (await http.post("/import", json=document, params=params | {"dry_run": "false"})).json()
    assert {(item["key"], item["environment"]) for item in done["items"]} == {
        (item["key"], item["environment"]) for item in imported["items"]
    }
    assert [flag["key"] for flag in (await http.get("/flags", params=CANARY)).json()["items"]] == ["both", "old"]
    assert (await http.get("/flags/old/history")).json()["items"][0]["after"] is None


async def test_flags_are_evaluated_while_many_are_imported(http: httpx.AsyncClient) -> None:
    await http.put("/flags/k", json=SWITCH)
    flags = {f"k{number}": SWITCH for number in range(1000)}
    importing = asyncio.create_task(http.post("/import", json={"flags": flags}))
    answered = 0
    while not importing.done():
        await asyncio.sleep(0)
        assert (await evaluate(http))["value"] is True
        answered += 1
    assert (await importing).status_code == 200
    assert answered > 5
    assert (await evaluate(http, "k999"))["value"] is True


async def test_an_import_runs_beside_the_event_loop(redis: Redis, redis_server: str) -> None:
    threads = []

    @contextlib.asynccontextmanager
    async def stores() -> AsyncIterator[FlagStore]:
        threads.append(threading.get_ident())
        async with connect(redis_server) as client:
            yield FlagStore(client)

    importer = Importer(stores)
    file = {"flags": {"k": SWITCH}}
    arguments: dict[str, Any] = {"mode": "merge", "dry_run": False, "actor": "ann", "at": now()}
    texts = await asyncio.gather(*(importer.run(file, Environment.PRODUCTION, **arguments) for _ in range(2)))
    answers = [json.loads(text) for text in texts]
    assert [(len(answer["items"]), answer["unchanged"]) for answer in answers] == [(1, 0), (0, 1)]
    assert threading.get_ident() not in threads
    assert gc.isenabled()
    with pytest.raises(Problem):
        await importer.run({"flags": {"k": {}}}, Environment.PRODUCTION, **arguments)
    assert gc.isenabled()


async def test_a_rule_nested_without_end_is_a_fault_of_the_file(http: httpx.AsyncClient) -> None:
    rule: dict[str, Any] = {"var": "x"}
    for _ in range(400):
        rule = {"!": [rule]}
    answer = await http.post("/import", json={"flags": {"k": SWITCH | {"targeting": rule}}})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"].startswith("flags.k.targeting")


async def test_half_a_surrogate_pair_is_refused(http: httpx.AsyncClient) -> None:
    content = '{"state": "ENABLED", "variants": {"on": "\\ud800"}, "defaultVariant": "on"}'
    answer = await http.put("/flags/k", content=content, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "variants")
