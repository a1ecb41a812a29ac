"""What Envoy sends again after a failed try, and what it does not, through a real Envoy."""

from collections import Counter
from collections.abc import AsyncIterator

import httpx
import pytest

from tests.support.proxy.proxy_stack import Stack, until
from tests.support.proxy.raw_app import RawApp, put, raw_apps, route

pytestmark = pytest.mark.anyio

ALWAYS, NEVER = {"x-canary": "always"}, {"x-canary": "never"}


@pytest.fixture
async def stack(stack: Stack) -> AsyncIterator[Stack]:
    """The proxy service runs too."""
    async with stack.service():
        yield stack


def instances(count: int, name: str = "stable") -> list[RawApp]:
    return [RawApp(f"{name}-{number}") for number in range(count)]


def times(apps: list[RawApp], path: str) -> list[int]:
    """How often each instance got the path; those that did not are left out."""
    return [count for app in apps if (count := app.paths.count(path))]


@pytest.mark.parametrize(("stable", "canary", "most"), [(1, 1, 1), (2, 0, 1), (2, 2, 1), (3, 0, 2), (3, 3, 2)])
async def test_a_request_of_death_ends_one_instance_or_two_of_three_and_none_of_the_other_track(
    stack: Stack, http: httpx.AsyncClient, stable: int, canary: int, most: int
) -> None:
    production, canaries = instances(stable), instances(canary, "canary")
    hit, others = (canaries, production) if canaries else (production, canaries)
    async with raw_apps(*production, *canaries):
        await route(stack, production, canaries)
        answer = await http.get("/die", headers=ALWAYS if canaries else NEVER)
        assert answer.status_code == 503
        reached = times(hit, "/die")
        assert 1 <= len(reached) <= most
        assert set(reached) == {1}
        assert times(others, "/die") == []
        # With three instances a GET is tried twice, so a few may meet both dead ones, until Envoy knows these: 3 tries.
        after = Counter([(await http.get("/")).status_code for _ in range(20)])
        assert after[503] <= (3 if most == 2 else 0)
        assert after.total() == after[200] + after[503]


@pytest.mark.parametrize(("count", "executions"), [(1, [1]), (2, [1]), (3, [1, 1])])
async def test_a_get_that_ends_in_a_reset_runs_once_and_with_three_instances_twice(
    stack: Stack, http: httpx.AsyncClient, count: int, executions: list[int]
) -> None:
    apps, path = instances(count), "/reset"
    async with raw_apps(*apps):
        await route(stack, apps)
        for listener in ("public", "production"):
            for app in apps:
                app.requests.clear()
            assert (await http.get(f"{stack.url(listener)}{path}")).status_code == 503
            assert times(apps, path) == executions
            assert (await http.head(f"{stack.url(listener)}{path}")).status_code == 503
            assert sum(times(apps, path)) == 2 * len(executions)


async def test_a_post_that_was_sent_is_never_sent_again(stack: Stack, http: httpx.AsyncClient) -> None:
    apps = instances(3)
    async with raw_apps(*apps):
        await route(stack, apps)
        for number in range(10):
            assert (await http.post(f"/reset?{number}", content=b"x")).status_code == 503
            assert times(apps, f"/reset?{number}") == [1]


async def test_a_get_is_sent_once_more_when_a_third_instance_is_ready_and_no_longer_when_it_leaves(
    stack: Stack, http: httpx.AsyncClient
) -> None:
    apps = instances(3)
    async with raw_apps(*apps):
        await route(stack, apps[:2])
        for state, executions in (("ready", 2), ("draining", 1)):
            await put(stack, apps[2], state)
            await stack.sync()
            assert (await http.get(f"/reset?{state}")).status_code == 503
            assert sum(times(apps, f"/reset?{state}")) == executions


async def test_a_visitor_cannot_ask_for_more_tries(stack: Stack, http: httpx.AsyncClient) -> None:
    apps = instances(1)
    async with raw_apps(*apps):
        await route(stack, apps)
        headers = {"x-envoy-retry-on": "reset,5xx", "x-envoy-max-retries": "9"}
        assert (await http.get("/reset", headers=headers)).status_code == 503
        assert times(apps, "/reset") == [1]


@pytest.mark.parametrize("canary", [1, 3])
async def test_what_was_not_sent_is_answered_by_production(stack: Stack, http: httpx.AsyncClient, canary: int) -> None:
    production, canaries = instances(3), instances(canary, "canary")
    async with raw_apps(*production, *canaries):
        await route(stack, production, canaries)
        canaries[0].die()
        answers = []
        for number in range(40):
            request = http.get("/") if number % 2 else http.post("/", content=b"x")
            answers.append(await request)
            http.cookies.clear()
        assert Counter(answer.status_code for answer in answers) == {200: 40}


async def test_envoy_ends_an_idle_connection_before_gunicorn_does(stack: Stack, http: httpx.AsyncClient) -> None:
    app = RawApp("stable", idle_s=2.0)
    async with raw_apps(app):
        await route(stack, [app])
        assert (await http.get("/")).status_code == 200
        await until(lambda: app.ended_by_envoy)
