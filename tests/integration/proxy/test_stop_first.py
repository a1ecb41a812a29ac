"""Production without an instance for a while, as stop-first wants it, on a real Envoy."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from tests.support.proxy.proxy_stack import Stack

pytestmark = pytest.mark.anyio


@pytest.fixture
async def http(stack: Stack) -> AsyncIterator[httpx.AsyncClient]:
    """On connections that stay open, over the whole change."""
    async with stack.service(), stack.visitor(trust_env=False) as client:
        yield client


async def visitors(http: httpx.AsyncClient, count: int) -> list[httpx.Response]:
    """Returns the answers to `count` new visitors, all over one connection."""
    answers = []
    for _ in range(count):
        http.cookies.clear()
        answers.append(await http.get("/"))
    return answers


async def test_the_only_instance_may_leave_and_another_come_while_a_canary_is_promoted(
    stack: Stack, http: httpx.AsyncClient
) -> None:
    old, _ = await stack.with_canary(50)
    slow = asyncio.create_task(http.get("/slow", headers={"x-canary": "never"}))
    await asyncio.sleep(0.3)

    await stack.put(old, "draining")
    assert (await stack.sync())["instances"]["notes-r1-stable"]["route"] == "draining"
    for url in (stack.url(), stack.url("production")):
        page = await http.get(url)
        assert page.status_code == 503 and "has no production instance that is ready" in page.text
    assert (await http.get(stack.url("canary"))).text == "canary"
    assert (await slow).text == "stable"
    assert (await stack.sync())["instances"]["notes-r1-stable"]["route"] == "absent"
    hits = old.hits
    await stack.put(old, "stopped")
    await stack.sync()
    stack.kill(old)
    assert {answer.status_code for answer in await visitors(http, 20)} == {503}

    new = stack.app("new")
    await stack.put(new, release="notes-r3")
    assert (await stack.sync())["instances"]["notes-r3-new"]["route"] == "routable"
    answers = await visitors(http, 60)
    assert {answer.status_code for answer in answers} == {200}
    assert {answer.text for answer in answers} == {"new", "canary"}, "the split is back"
    assert (await http.get(stack.url("production"))).text == "new"
    assert old.hits == hits
    rollout = (await stack.api.get("/apps/notes/rollout")).json()
    assert (rollout["release"], rollout["state"]) == ("notes-r2", "progressing")
