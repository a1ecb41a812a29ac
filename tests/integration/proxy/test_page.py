"""The pages and what their forms do, through the whole service: token, real Envoy, real Redis."""

import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from shared.models import Track
from tests.support.proxy.proxy_stack import TOKEN, Stack

pytestmark = pytest.mark.anyio

PAGE = "/apps/notes/rollout"
MEASURED = {"rule": "errors", "metric": "error_share", "value": 0.42, "threshold": 0.05, "words": "<b>many</b> errors"}


@pytest.fixture
async def stack(stack: Stack) -> AsyncIterator[Stack]:
    """The proxy service runs too."""
    async with stack.service():
        yield stack


@pytest.fixture
async def browser(stack: Stack) -> AsyncIterator[httpx.AsyncClient]:
    """Sends what a browser sends with a form of the same origin."""
    headers = {"accept": "text/html,application/xhtml+xml", "sec-fetch-site": "same-origin"}
    transport = stack.api._transport
    async with httpx.AsyncClient(
        transport=transport, base_url="http://proxy", headers=headers, auth=("any", TOKEN)
    ) as browser:
        yield browser


async def text(browser: httpx.AsyncClient, path: str) -> str:
    """The page's text, without tags."""
    answer = await browser.get(path)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    return " ".join(re.sub(r"<[^>]+>", " ", answer.text).split())


async def rollout(stack: Stack) -> dict[str, Any]:
    view: dict[str, Any] = (await stack.api.get(PAGE)).json()
    return view


async def test_the_overview_shows_every_app_with_its_rollout(stack: Stack, browser: httpx.AsyncClient) -> None:
    assert "No app is routed yet" in await text(browser, "/")
    await stack.with_canary(25)
    await stack.put(stack.app("shop"), release="shop-r1", of="shop")
    await stack.sync("shop")
    page = await text(browser, "/")
    assert re.search(
        r"notes notes-r2 progressing the canary is ready since \d{4}-.* UTC 25 % - shop no canary yet", page
    )


async def test_an_apps_page_says_what_happens_and_why(stack: Stack, browser: httpx.AsyncClient) -> None:
    await stack.with_canary(25)
    page = await text(browser, PAGE)
    assert "notes-r2 progressing : the canary is ready" in page
    assert "Share set 25 %" in page
    assert "Release notes-r1 notes-r2" in page
    assert re.search(r"notes-r2-canary 127.0.0.1:\d+ canary ready", page)
    action = {"release": "notes-r2", "reason": "errors above 5 %", "evidence": MEASURED}
    await stack.api.post(f"{PAGE}/abort", json=action)
    page = await text(browser, PAGE)
    assert "notes-r2 aborted : errors above 5 %" in page
    assert "Measured 42 % Threshold 5 % What was seen &lt;b&gt;many&lt;/b&gt; errors The rollout ran for" in page
    assert "The weight was 25 %, the share set 25 %" in page


async def test_why_it_was_aborted_can_be_answered_when_another_has_come(
    stack: Stack, browser: httpx.AsyncClient
) -> None:
    await stack.with_canary()
    await stack.api.post(f"{PAGE}/abort", json={"release": "notes-r2", "reason": "errors", "evidence": MEASURED})
    await stack.put(stack.app("newer"), release="notes-r3", track=Track.CANARY)
    await stack.sync()
    await stack.api.post(PAGE, json={"release": "notes-r3"})
    page = await text(browser, PAGE)
    assert "notes-r3 progressing" in page
    assert "UTC : errors Opened" in page
    assert "Measured 42 %" in page
    (earlier,) = (await stack.api.get("/apps/notes/rollouts")).json()["items"]
    assert (earlier["release"], earlier["state"], earlier["reason"]) == ("notes-r2", "aborted", "errors")
    assert earlier["evidence"]["value"] == 0.42
    assert "notify" not in earlier, "addresses hold secrets"


async def test_forms_change_the_rollout_and_lead_back_to_the_page(stack: Stack, browser: httpx.AsyncClient) -> None:
    await stack.with_canary()

    async def submit(path: str, **fields: str) -> dict[str, Any]:
        answer = await browser.post(path, data=fields)
        assert (answer.status_code, answer.headers["location"]) == (303, PAGE)
        return await rollout(stack)

    assert (await submit(f"{PAGE}/weight", weight="7"))["weight"] == 7
    assert (await submit(f"{PAGE}/disable"))["enabled"] is False
    assert (await submit(f"{PAGE}/enable"))["enabled"] is True
    assert (await submit("/rollouts/notes-r2/resume"))["state"] == "progressing"
    await submit("/rollouts/notes-r2/promote")
    assert "Promotion was asked for at" in await text(browser, PAGE)
    aborted = await submit("/rollouts/notes-r2/abort")
    assert (aborted["state"], aborted["reason"]) == ("aborted", "aborted by hand")


STEPS = [{"weight": 5, "for": "2m", "pause": True}, {"weight": 33, "for": "10m"}]
VERDICT = {"result": "inconclusive", "score": 52, "reason": "errors are within 3 points", "at": "2026-01-01T00:02:00Z"}


async def with_steps(stack: Stack, **canary: Any) -> None:
    await stack.with_instances()
    body = {"release": "notes-r2", "canary": {"steps": STEPS, **canary}}
    assert (await stack.api.post(PAGE, json=body)).status_code == 200


async def test_the_page_shows_the_steps_and_what_the_rollout_waits_for(
    stack: Stack, browser: httpx.AsyncClient
) -> None:
    await with_steps(stack, promote="automatic", mirror=10)
    page = await text(browser, PAGE)
    first = r"1 of 2 5 % 2 min, then until a person resumes under way since \S+ \S+ UTC , until \S+ \S+ UTC at least"
    assert re.search(first + " 2 of 2 33 % 10 min to come", page), page
    assert "After the last step it is promoted to production by itself" in page
    assert "10 % of production's GET and HEAD requests are also sent to the canary" in page.replace("&#39;", "'")
    assert f':{stack.settings.port("monitor")}/releases/notes-r2/analysis"' in (await browser.get(PAGE)).text

    await stack.api.put(PAGE, json={"weight": 12})
    asked = {"release": "notes-r2", "step": 0, "verdict": VERDICT, "hold": "40 more requests are needed"}
    await stack.api.post(f"{PAGE}/advance", json=asked)
    page = await text(browser, PAGE)
    assert "5 % (now 12 %, set by hand)" in page
    assert "holds : 40 more requests are needed" in page
    assert "inconclusive, score 52 of 100: errors are within 3 points" in page

    await stack.api.post(f"{PAGE}/advance", json={**asked, "hold": ""})
    page = await text(browser, PAGE)
    assert "notes-r2 paused : step 1 of 2 waits for a person" in page
    assert "then until a person resumes waits for a person since" in page
    assert 'id="resume"' in (await browser.get(PAGE)).text

    await stack.api.post(f"{PAGE}/resume", json={"release": "notes-r2"})
    page = await text(browser, PAGE)
    assert "over : resumed by hand" in page and "2 of 2 33 % 10 min under way since" in page


async def test_the_step_on_the_page_is_the_one_that_its_buttons_end(stack: Stack, browser: httpx.AsyncClient) -> None:
    await with_steps(stack)

    async def submit(path: str, **fields: str) -> tuple[int, int]:
        answer = await browser.post(path, data=fields)
        return answer.status_code, (await rollout(stack))["step"]

    skip = "/rollouts/notes-r2/skip"
    assert 'name="step" value="0"><button id="skip">End step 1 now' in (await browser.get(PAGE)).text
    assert await submit(skip, step="0") == (303, 1)
    assert await submit(skip, step="0") == (303, 1), "a second click on the same page"
    assert await submit(skip, step="2") == (409, 1)
    assert await submit(skip, step="one") == (422, 1)
    assert await submit("/rollouts/notes-r2/resume", step="0") == (303, 1)
    assert await submit(skip, step="1") == (303, 2)
    assert 'id="skip"' not in (await browser.get(PAGE)).text
    assert "all steps have ended: skipped by hand" in await text(browser, PAGE)


async def test_what_was_not_done_is_said_on_the_page(stack: Stack, browser: httpx.AsyncClient) -> None:
    await stack.with_canary()
    stale = await browser.post("/rollouts/notes-r1/abort")
    assert (stale.status_code, stale.headers["content-type"]) == (409, "text/html; charset=utf-8")
    assert 'role="alert">This was not done: notes-r1 is not the current rollout of notes' in stale.text
    for given in ("101", "-1", "ten", ""):
        assert (await browser.post(f"{PAGE}/weight", data={"weight": given})).status_code == 422
    assert ((await rollout(stack))["state"], (await rollout(stack))["weight"]) == ("progressing", 33)
    script = await stack.api.post("/rollouts/notes-r1/abort")
    assert (script.status_code, script.headers["content-type"]) == (409, "application/problem+json")
    assert (await browser.post("/rollouts/shop-r1/abort")).status_code == 404


async def test_a_page_of_another_origin_changes_nothing(stack: Stack, browser: httpx.AsyncClient) -> None:
    await stack.with_canary()
    forged = await browser.post("/rollouts/notes-r2/abort", headers={"sec-fetch-site": "cross-site"})
    assert forged.status_code == 403
    assert (await rollout(stack))["state"] == "progressing"


async def test_a_poll_leaves_out_what_the_reader_has(stack: Stack, browser: httpx.AsyncClient) -> None:
    """So that what is focused, typed or open stays."""
    await stack.with_canary()

    async def poll(path: str) -> tuple[str, set[str]]:
        page = (await browser.get(path)).text
        poller = re.search(r'hx-get="(/apps/notes/rollout\?seen=\w+)"', page)
        assert poller
        return poller[1], set(re.findall(r'<div id="(\w+)"', page))

    path, regions = await poll(PAGE)
    assert regions == {"state", "steps", "ended", "actions", "figures", "hosts", "earlier"}
    same, regions = await poll(path)
    assert (same, regions) == (path, {"figures"})
    await stack.api.put(PAGE, json={"weight": 5})
    changed, regions = await poll(path)
    assert changed != path
    assert regions == {"state", "steps", "ended", "actions", "figures", "hosts", "earlier"}


async def test_the_pages_need_neither_envoy_nor_the_deployer(stack: Stack, browser: httpx.AsyncClient) -> None:
    await stack.with_canary()
    stack.kill_envoy()
    stack.deployer.close()
    assert "notes-r2 progressing" in await text(browser, "/")
    assert "notes-r2 progressing" in await text(browser, PAGE)
    stack.restart_deployer()
