"""Tests what Envoy sends again after a failed try, and what it does not, through a real Envoy."""

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
    """Returns how often each instance got the path; those that did not are left out."""
    return [count for app in apps if (count := app.paths.count(path))]


async def test_a_request_of_death_ends_one_instance_or_two_of_three_and_none_of_the_other_track(stack: Stack) -> None:
    for stable, canary, most in ((1, 1, 1), (2, 0, 1), (2, 2, 1), (3, 0, 2), (3, 3, 2)):
        production, canaries = instances(stable), instances(canary, "canary")
        hit, others = (canaries, production) if canaries else (production, canaries)
        app = f"app-{stable}-{canary}"
        async with (
            raw_apps(*production, *canaries),
            stack.visitor(app) as http,
        ):
            await route(stack, production, canaries, of=app)
            assert (await http.get("/die", headers=ALWAYS if canaries else NEVER)).status_code == 503
            reached = times(hit, "/die")
            assert 1 <= len(reached) <= most
            assert set(reached) == {1}
            assert times(others, "/die") == []
            # With three instances a GET has two tries, so a few meet both dead ones, until Envoy knows these: 3 tries.
            after = Counter([(await http.get("/")).status_code for _ in range(20)])
            assert after[503] <= (3 if most == 2 else 0)
            assert after.total() == after[200] + after[503]


async def test_a_get_that_ends_in_a_reset_runs_once_and_with_three_instances_twice(
    stack: Stack, http: httpx.AsyncClient
) -> None:
    apps = instances(3)
    async with raw_apps(*apps):
        for count, executions in ((1, [1]), (2, [1]), (3, [1, 1])):
            await route(stack, apps[:count])
            for listener in ("public", "production"):
                path = f"/reset?{count}{listener}"
                assert (await http.get(f"{stack.url(listener)}{path}")).status_code == 503
                assert times(apps, path) == executions
                assert (await http.head(f"{stack.url(listener)}{path}")).status_code == 503
                assert sum(times(apps, path)) == 2 * len(executions)
        await put(stack, apps[2], "draining")
        await stack.sync()
        assert (await http.get("/reset?left")).status_code == 503
        assert times(apps, "/reset?left") == [1]


async def test_a_post_that_was_sent_is_never_sent_again(stack: Stack, http: httpx.AsyncClient) -> None:
    apps = instances(3)
    async with raw_apps(*apps):
        await route(stack, apps)
        for number in range(10):
            assert (await http.post(f"/reset?{number}", content=b"x")).status_code == 503
            assert times(apps, f"/reset?{number}") == [1]


async def test_a_visitor_cannot_ask_for_more_tries(stack: Stack, http: httpx.AsyncClient) -> None:
    apps = instances(1)
    async with raw_apps(*apps):
        await route(stack, apps)
        headers = {"x-envoy-retry-on": "reset,5xx", "x-envoy-max-retries": "9"}
        assert (await http.get("/reset", headers=headers)).status_code == 503
        assert times(apps, "/reset") == [1]


async def test_what_was_not_sent_is_answered_by_production(stack: Stack) -> None:
    for count in (1, 3):
        production, canaries, app = instances(3), instances(count, "canary"), f"app-{count}"
        async with (
            raw_apps(*production, *canaries),
            stack.visitor(app) as http,
        ):
            await route(stack, production, canaries, of=app)
            canaries[0].die()
            answers = []
            for number in range(40):
                answers.append(await (http.get("/") if number % 2 else http.post("/", content=b"x")))
                http.cookies.clear()
            assert Counter(answer.status_code for answer in answers) == {200: 40}


async def test_envoy_ends_an_idle_connection_before_gunicorn_does(stack: Stack, http: httpx.AsyncClient) -> None:
    app = RawApp("stable", idle_s=2.0)
    async with raw_apps(app):
        await route(stack, [app])
        assert (await http.get("/")).status_code == 200
        await until(lambda: app.ended_by_envoy)
