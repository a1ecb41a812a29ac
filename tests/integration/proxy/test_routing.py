"""Routing through a real Envoy: sync, split, override, failover, draining, several apps."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import httpx
import pytest
from redis.asyncio import Redis

from shared.models import Track
from tests.support.proxy.proxy_stack import Stack, until

pytestmark = pytest.mark.anyio

ALWAYS = {"x-canary": "always"}


@pytest.fixture
async def stack(stack: Stack) -> AsyncIterator[Stack]:
    """The proxy service runs too."""
    async with stack.service():
        yield stack


async def visit(http: httpx.AsyncClient, count: int) -> list[httpx.Response]:
    """So many new visitors."""
    answers = []
    for _ in range(count):
        http.cookies.clear()
        answers.append(await http.get("/"))
    http.cookies.clear()
    return answers


async def test_before_any_release_visitors_are_told_so(stack: Stack, http: httpx.AsyncClient) -> None:
    answer = await http.get("/")
    assert answer.status_code == 404
    assert "No app of this platform" in answer.text


async def test_a_synced_release_is_served_on_both_ports_and_the_canary_port_says_that_there_is_none(
    stack: Stack, http: httpx.AsyncClient
) -> None:
    app = stack.app("stable")
    await stack.put(app)
    result = await stack.sync()
    assert result["instances"] == {"notes-r1-stable": {"route": "routable", "active": 0}}
    answer = await http.get("/")
    assert (answer.text, answer.headers.get_list("x-slipway-track")) == ("stable", ["stable"])
    assert (await http.get(stack.url("production"))).text == "stable"
    canary = await http.get(stack.url("canary"))
    assert canary.status_code == 503
    assert "runs no canary" in canary.text
    assert (await stack.api.get("/ready")).json()["problems"] == {}


async def test_the_override_header_chooses_the_track(stack: Stack, http: httpx.AsyncClient) -> None:
    await stack.with_canary(0)
    assert (await http.get("/", headers=ALWAYS)).text == "canary"
    await stack.api.put("/apps/notes/rollout", json={"weight": 100})
    assert (await http.get("/")).text == "canary"
    assert (await http.get("/", headers={"x-canary": "never"})).text == "stable"


async def test_switched_off_there_is_no_split_but_the_canarys_own_port(stack: Stack, http: httpx.AsyncClient) -> None:
    await stack.with_canary(100)
    view = (await stack.api.put("/apps/notes/rollout", json={"enabled": False})).json()
    assert (view["enabled"], view["weight"], view["state"]) == (False, 100, "progressing")
    assert {answer.text for answer in await visit(http, 10)} == {"stable"}
    assert (await http.get(stack.url("canary"))).text == "canary"


async def test_without_production_there_is_no_split(stack: Stack, http: httpx.AsyncClient) -> None:
    canary = stack.app("canary")
    await stack.put(canary, release="notes-r2", track=Track.CANARY)
    await stack.sync()
    await stack.api.post("/apps/notes/rollout", json={"release": "notes-r2"})
    answer = await http.get("/", headers={"host": "notes.localhost"})
    assert answer.status_code == 503
    assert "no production instance" in answer.text
    assert (await http.get(stack.url("canary"), headers={"host": "notes.localhost"})).text == "canary"


async def test_a_dead_canary_fails_over_to_stable_without_an_error(stack: Stack, http: httpx.AsyncClient) -> None:
    _, canary = await stack.with_canary(50)
    stack.kill(canary)
    answers = await visit(http, 60)
    assert Counter((answer.status_code, answer.text) for answer in answers) == {(200, "stable"): 60}
    assert {answer.headers["x-slipway-track"] for answer in answers} == {"stable"}
    posted = await http.post("/", content=b"text", headers=ALWAYS)
    assert (posted.status_code, posted.text) == (200, "stable text")


async def test_a_canary_that_answers_500_keeps_its_share_and_is_counted(stack: Stack, http: httpx.AsyncClient) -> None:
    await stack.with_canary(50, fails=True)
    answers = await visit(http, 100)
    failed = sum(answer.status_code == 500 for answer in answers)
    assert 25 < failed < 75
    assert all(answer.headers["x-slipway-track"] == "canary" for answer in answers if answer.status_code == 500)

    async def counted() -> bool:
        tracks = (await stack.api.get("/apps/notes/traffic")).json()["tracks"]
        figures = {name: (track["requests"], track["errors"]) for name, track in tracks.items()}
        return figures == {"stable": (100 - failed, 0), "canary": (failed, failed)}

    await until(counted)


async def test_a_draining_instance_ends_its_requests_and_gets_no_more(stack: Stack, http: httpx.AsyncClient) -> None:
    old, new = stack.app("old"), stack.app("new")
    await stack.put(old)
    await stack.sync()
    slow = asyncio.create_task(http.get("/slow"))
    await until(lambda: old.hits == 1)
    await stack.put(new, release="notes-r2")
    await stack.put(old, "draining")
    result = await stack.sync()
    assert result["instances"]["notes-r1-old"] == {"route": "draining", "active": 1}
    assert {answer.text for answer in await visit(http, 20)} == {"new"}
    assert (await slow).text == "old"

    async def absent() -> bool:
        return bool((await stack.sync())["instances"]["notes-r1-old"]["route"] == "absent")

    await until(absent)
    assert old.hits == 1


async def test_an_idle_draining_instance_is_absent_in_the_same_call(stack: Stack) -> None:
    old, new = stack.app("old"), stack.app("new")
    await stack.put(old)
    await stack.put(new, release="notes-r2")
    await stack.sync()
    await stack.put(old, "draining")
    routes = {key: item["route"] for key, item in (await stack.sync())["instances"].items()}
    assert routes == {"notes-r1-old": "absent", "notes-r2-new": "routable"}


async def test_what_the_registry_has_lost_stays(stack: Stack, http: httpx.AsyncClient, redis: Redis) -> None:
    await stack.put(stack.app("stable"))
    await stack.sync()
    await redis.delete("registry:instance:notes:stable")
    assert (await stack.sync())["instances"]["notes-r1-stable"]["route"] == "routable"
    await redis.hset("registry:instance:notes:stable", "notes-r1-stable", "not JSON")
    assert (await stack.api.post("/apps/notes/sync", json={"hosts": []})).status_code == 503
    assert (await http.get("/")).text == "stable"


@pytest.mark.parametrize("state", ["failed", "stopped", "unhealthy"])
@pytest.mark.slow
async def test_a_bad_state_takes_an_instance_out_without_a_sync(
    stack: Stack, http: httpx.AsyncClient, state: str
) -> None:
    bad, good = stack.app("bad"), stack.app("good")
    await stack.put(bad)
    await stack.put(good)
    await stack.sync()
    await stack.put(bad, state)

    async def out() -> bool:
        return {answer.text for answer in await visit(http, 20)} == {"good"}

    await until(out)
    await stack.put(bad, "ready")
    assert (await stack.sync())["instances"]["notes-r1-bad"]["route"] == "routable"


@pytest.mark.slow
async def test_an_instance_that_does_not_answer_is_named(stack: Stack, http: httpx.AsyncClient) -> None:
    await stack.put(stack.app("well"))
    await stack.put(stack.app("deaf", health="/elsewhere"))
    answer = await stack.api.post("/apps/notes/sync", json={"hosts": []}, timeout=10)
    assert answer.status_code == 504
    assert [part.split()[0] for part in answer.json()["missing"]] == ["notes-r1-deaf"]
    assert {answer.text for answer in await visit(http, 10)} == {"well"}


async def test_apps_are_told_apart_by_host(stack: Stack, http: httpx.AsyncClient) -> None:
    await stack.put(stack.app("first"))
    await stack.sync(hosts=["notes.example.com"])
    await stack.put(stack.app("second"), release="shop-r1", of="shop")
    await stack.sync("shop", hosts=["shop.example.com"])
    expected = {
        "notes.localhost": "first",
        "notes.example.com:3456": "first",
        "shop.localhost": "second",
        "SHOP.example.com:3456": "second",
    }
    seen = {host: (await http.get("/", headers={"host": host})).text for host in expected}
    assert seen == expected


async def test_a_host_belongs_to_the_app_that_claimed_it_first(stack: Stack, http: httpx.AsyncClient) -> None:
    await stack.put(stack.app("first"))
    await stack.sync(hosts=["www.example.com"])
    await stack.put(stack.app("second"), release="shop-r1", of="shop")
    answer = await stack.api.post("/apps/shop/sync", json={"hosts": ["www.example.com"]})
    assert answer.status_code == 409
    assert answer.json()["detail"].startswith("host www.example.com belongs to app notes")
    assert (await http.get("/", headers={"host": "www.example.com"})).text == "first"


async def test_an_app_whose_name_begins_like_anothers_is_confirmed_for_itself(
    stack: Stack, http: httpx.AsyncClient
) -> None:
    await stack.put(stack.app("first"))
    await stack.sync()
    await stack.put(stack.app("second"), release="notes-2-r1", of="notes-2")
    result = await stack.sync("notes-2")
    assert result["instances"] == {"notes-2-r1-second": {"route": "routable", "active": 0}}
    assert (await http.get("/", headers={"host": "notes-2.localhost"})).text == "second"
    assert (await http.get("/", headers={"host": "notes.localhost"})).text == "first"
    figures = (await stack.api.get("/traffic")).json()["items"]
    assert [(item["app"], item["tracks"]["stable"]["release"]) for item in figures] == [
        ("notes", "notes-r1"),
        ("notes-2", "notes-2-r1"),
    ]
    assert figures[1]["rollout"] == (await stack.api.get("/apps/notes-2/rollout")).json()


async def test_a_changed_health_path_loses_no_request(stack: Stack, http: httpx.AsyncClient) -> None:
    old, new = stack.app("old", health="/up"), stack.app("new", health="/healthz")
    await stack.put(old)
    await stack.sync(health="/up")
    answers: list[httpx.Response] = []
    stop = asyncio.Event()

    async def load() -> None:
        while not stop.is_set():
            answers.append(await http.get("/"))

    loads = [asyncio.create_task(load()) for _ in range(4)]
    await stack.put(new, release="notes-r2")
    await stack.sync(health="/healthz")
    await stack.put(old, "draining")
    await stack.sync(health="/healthz")
    stop.set()
    await asyncio.gather(*loads)
    assert {answer.status_code for answer in answers} == {200}
    assert answers[-1].text == "new"
