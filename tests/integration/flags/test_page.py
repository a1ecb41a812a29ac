"""Flags as pages, and their buttons as browsers press them."""

import re
from collections.abc import AsyncIterator
from html import unescape

import httpx
import pytest

from services.flags.page import FLAGS_SHOWN
from tests.support.flags_stack import SWITCH, TOKEN, evaluate

pytestmark = pytest.mark.anyio

RULE = {"if": [{"==": [{"var": "plan"}, "<pro>"]}, "on"]}
HTML = {"Accept": "text/html,application/xhtml+xml"}
OWN = {"Sec-Fetch-Site": "same-origin", "Origin": "http://flags"}


@pytest.fixture
async def browser(http: httpx.AsyncClient) -> AsyncIterator[httpx.AsyncClient]:
    """Sends what a browser sends that asked a person for a password."""
    headers = HTML | {"Authorization": httpx.BasicAuth("ann", TOKEN)._auth_header}
    async with httpx.AsyncClient(transport=http._transport, base_url="http://flags", headers=headers) as client:
        yield client


def buttons(page: str) -> dict[str, str]:
    """Each button's label → where its form goes."""
    forms = re.findall(r'<form [^>]*method="post" action="([^"]+)"><button [^>]*aria-label="([^"]+)"', page)
    return {unescape(label): unescape(action) for action, label in forms}


def text_of(page: str) -> str:
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", page)))


async def test_the_page_shows_every_flag_in_every_environment(
    http: httpx.AsyncClient, browser: httpx.AsyncClient
) -> None:
    assert "No flag yet" in (await browser.get("/")).text
    await http.put("/flags/beta", json=SWITCH | {"targeting": RULE, "metadata": {"owner": "<b>ann</b>"}})
    await http.put("/flags/only", json=SWITCH | {"state": "DISABLED"}, params={"environment": "canary"})
    await evaluate(http, "beta")
    page = (await browser.get("/")).text
    assert 'aria-current="page">Flags</a>' in page
    assert page.index('id="beta"') < page.index('id="only"')
    assert "<b>ann</b>" not in page
    text = text_of(page)
    assert "There is no such flag in production" in text
    assert "disabled: each caller's own default" in text
    assert "on unless its rules say otherwise" in text
    assert text.count("Last evaluated never") == 2
    assert len(set(re.findall(r' id="([^"]+)"', page))) == len(re.findall(r' id="([^"]+)"', page))


async def test_a_button_switches_and_leads_back(http: httpx.AsyncClient, browser: httpx.AsyncClient) -> None:
    await http.put("/flags/beta", json=SWITCH)
    action = buttons((await browser.get("/")).text)["Switch beta to off in production"]
    pressed = await browser.post(action, headers=OWN | {"Referer": "http://flags/"})
    assert (pressed.status_code, pressed.headers["location"]) == (303, "/#beta")
    values = [(await http.get("/flags/beta", params={"environment": each})).json() for each in ("production", "canary")]
    assert [value["defaultVariant"] for value in values] == ["off", "on"]
    assert values[0]["updated_by"] == "ann"
    action = buttons((await browser.get("/flags/beta")).text)["Switch beta to off in canary"]
    pressed = await browser.post(action, headers=OWN | {"Referer": "http://flags/flags/beta"})
    assert pressed.headers["location"] == "/flags/beta"


async def test_a_stale_page_undoes_nothing_and_says_so(http: httpx.AsyncClient, browser: httpx.AsyncClient) -> None:
    await http.put("/flags/beta", json=SWITCH)
    action = buttons((await browser.get("/")).text)["Switch beta to on in production"]
    await http.patch("/flags/beta", json={"defaultVariant": "off"}, params={"environment": "canary"})
    assert (await browser.post(action, headers=OWN)).status_code == 303  # another environment's change is none of its
    await http.patch("/flags/beta", json={"defaultVariant": "off"})
    refused = await browser.post(action, headers=OWN)
    assert (refused.status_code, refused.headers["content-type"]) == (412, "text/html; charset=utf-8")
    assert "somebody else changed the flag first" in text_of(refused.text)
    assert 'href="/flags/beta"' in refused.text
    assert (await http.get("/flags/beta")).json()["defaultVariant"] == "off"
    gone = await browser.post("/flags/none/switch?to=on", headers=OWN)
    assert (gone.status_code, "there is no flag none" in text_of(gone.text)) == (404, True)


async def test_another_sites_form_switches_nothing(http: httpx.AsyncClient, browser: httpx.AsyncClient) -> None:
    await http.put("/flags/beta", json=SWITCH)
    forged = await browser.post(
        "/flags/beta/switch?to=off", headers={"Sec-Fetch-Site": "cross-site", "Origin": "http://evil"}
    )
    assert forged.status_code == 403
    assert (await http.get("/flags/beta")).json()["defaultVariant"] == "on"


async def test_rules_are_set_aside_and_brought_back_by_buttons(
    http: httpx.AsyncClient, browser: httpx.AsyncClient
) -> None:
    await http.put("/flags/beta", json=SWITCH | {"targeting": RULE})
    action = buttons((await browser.get("/")).text)["Serve off of beta to everybody in production, rules set aside"]
    assert (await browser.post(action, headers=OWN)).status_code == 303
    assert (await evaluate(http, "beta", plan="<pro>"))["value"] is False
    page = (await browser.get("/")).text
    assert "off to everybody; its rules are set aside" in text_of(page)
    action = buttons(page)["Bring the rules of beta back in production"]
    assert (await browser.post(action, headers=OWN)).status_code == 303
    assert (await evaluate(http, "beta", plan="<pro>"))["value"] is True


async def test_a_flags_page_tells_its_rules_and_its_history(
    http: httpx.AsyncClient, browser: httpx.AsyncClient
) -> None:
    await http.put("/flags/beta", json=SWITCH | {"targeting": RULE, "metadata": {"mirror": "featureFlag"}})
    await http.patch("/flags/beta", json={"defaultVariant": "off"}, params={"environment": "canary"})
    page = (await browser.get("/flags/beta")).text
    text = text_of(page)
    assert '"<pro>"' in text and "<pro>" not in page
    assert "flag:beta featureFlag → 1" in text and "flag:canary:beta → 0" in text
    assert 'changed in canary by platform defaultVariant: was "on" → is "off"' in text
    assert "To turn a flag off" in text
    await http.delete("/flags/beta")
    gone = text_of((await browser.get("/flags/beta")).text)
    assert "deleted in production by platform" in gone
    assert (await browser.get("/flags/never")).status_code == 404
    assert (await http.get("/flags/beta")).status_code == 404  # who asks for JSON gets the flag, which is gone


async def test_a_long_history_has_pages(http: httpx.AsyncClient, browser: httpx.AsyncClient) -> None:
    for number in range(22):
        body = SWITCH | {"metadata": {"number": number}}
        await http.put("/flags/beta", json=body, params={"environment": "canary"})
    page = (await browser.get("/flags/beta")).text
    assert "hx-get" in page
    [older] = re.findall(r'href="(/flags/beta\?cursor=[^"]+)"', page)
    last = (await browser.get(older)).text
    assert "made in canary" in text_of(last) and "hx-get" not in last
    assert "cursor=" not in last


async def test_many_flags_have_pages_and_a_search(http: httpx.AsyncClient, browser: httpx.AsyncClient) -> None:
    keys = [f"k{number:03}" for number in range(2 * FLAGS_SHOWN + 1)]
    flags = {"environments": {each: {"flags": dict.fromkeys(keys, SWITCH)} for each in ("production", "canary")}}
    await http.post("/import", json=flags)
    shown: list[list[str]] = []
    path = "/"
    while path:
        page = (await browser.get(path)).text
        shown.append(re.findall(r'<section class="flag" id="([^"]+)"', page))
        path = unescape("".join(re.findall(r'id="page:next" href="([^"]+)"', page)))
    assert shown == [keys[:FLAGS_SHOWN], keys[FLAGS_SHOWN:-1], keys[-1:]]
    found = (await browser.get("/", params={"search": "K00"})).text
    assert re.findall(r'<section class="flag" id="([^"]+)"', found) == keys[:10]
    assert 'value="K00"' in found
    assert "There is no such flag" in (await browser.get("/", params={"search": "none"})).text


async def test_a_button_leads_back_to_its_page_of_the_list(http: httpx.AsyncClient, browser: httpx.AsyncClient) -> None:
    await http.put("/flags/beta", json=SWITCH)
    action = buttons((await browser.get("/")).text)["Switch beta to off in production"]
    for came_from, back in [
        ("/?cursor=a&search=be&seen=x", "/?search=be&cursor=a#beta"),
        ("/?search=%22%3E", "/?search=%22%3E#beta"),
        ("/flags/beta?cursor=1-1", "/flags/beta"),
        ("/flags/other", "/#beta"),
    ]:
        pressed = await browser.post(
            action.partition("&seen")[0], headers=OWN | {"Referer": f"http://flags{came_from}"}
        )
        assert pressed.headers["location"] == back


async def test_a_page_that_looks_again_gets_nothing_until_something_changed(
    http: httpx.AsyncClient, browser: httpx.AsyncClient
) -> None:
    await http.put("/flags/beta", json=SWITCH)
    for path in ("/", "/?search=b&cursor=a", "/flags/beta"):
        [again] = re.findall(r'hx-get="([^"]+)"', (await browser.get(path)).text)
        again = path.partition("?")[0] + unescape(again)
        assert (await browser.get(again)).status_code == 204
        await http.patch("/flags/beta", json={"metadata": {"seen": path}})
        assert "beta" in (await browser.get(again)).text
