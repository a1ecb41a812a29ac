"""Flaky tests over the API, and on the build's page."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path

import httpx
import pytest
from redis.asyncio import Redis

from services.build.api.flaky_tests import flaky_tests_router
from services.build.api.page_views import BuildPages
from services.build.builds.app import new_app
from services.build.builds.build_store import BuildStore
from services.build.config import Settings
from services.build.gates.flaky import FlakyTest, Quarantine
from services.build.gates.gate import GateResult
from services.build.gates.history_store import HistoryStore
from services.build.logs.build_log import BuildLogs
from services.build.reports.metric import Offender
from tests.support.build.api import TOKEN, client_of
from tests.support.build.builds import AT, build

pytestmark = pytest.mark.anyio
PATH = "/apps/notes/tests/flaky"
TEST = "tests.test_a::b[c/d e]"
AT_PATH = f"{PATH}/tests.test_a::b%5Bc%2Fd%20e%5D"
LATER = AT + timedelta(days=30)


@pytest.fixture
def history(redis: Redis) -> HistoryStore:
    return HistoryStore(redis)


@pytest.fixture
async def client(history: HistoryStore, redis: Redis, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    store = BuildStore(redis)
    await store.add_app(new_app("notes", AT))
    async with client_of(
        [flaky_tests_router(store, history, lambda: AT)], Settings(home=tmp_path, token=TOKEN), redis
    ) as client:
        yield client


async def test_a_person_quarantines_a_test_and_ends_it(client: httpx.AsyncClient, history: HistoryStore) -> None:
    assert (await client.get(PATH)).json() == {"items": [], "next": None}
    made = await client.put(AT_PATH, json={"reason": "moving the server", "until": LATER.isoformat()})
    assert (made.status_code, made.json()["test"], made.json()["step"]) == (200, TEST, None)
    assert (await history.quarantines("notes"))[TEST].until == LATER
    [item] = (await client.get(PATH)).json()["items"]
    assert (item["test"], item["reason"], item["flips"]) == (TEST, "moving the server", 0)
    assert (await client.delete(AT_PATH)).status_code == 204
    gone = await client.delete(AT_PATH)
    assert (gone.status_code, PATH in gone.json()["detail"]) == (404, True)


async def test_what_was_found_out_before_is_kept(client: httpx.AsyncClient, history: HistoryStore) -> None:
    since = AT - timedelta(days=9)
    await history.put_quarantine(
        "notes", Quarantine(test=TEST, step="test", until=AT, reason="flips", since=since, flips=3)
    )
    made = (await client.put(AT_PATH, json={"reason": "r", "until": LATER.isoformat(), "step": "test"})).json()
    assert (made["flips"], made["step"], made["reason"]) == (3, "test", "r")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"reason": "r", "until": AT.isoformat()}, "until"),
        ({"reason": "r", "until": (AT + timedelta(days=91)).isoformat()}, "until"),
        ({"reason": "r", "until": "2026-01-31T00:00:00"}, "until"),
        ({"reason": "", "until": LATER.isoformat()}, "reason"),
        ({"until": LATER.isoformat()}, "reason"),
        ({"reason": "r", "until": LATER.isoformat(), "for": 3}, "for"),
    ],
)
async def test_a_quarantine_that_is_refused(
    client: httpx.AsyncClient, history: HistoryStore, body: object, field: str
) -> None:
    answer = await client.put(AT_PATH, json=body)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, field)
    assert await history.quarantines("notes") == {}


async def test_an_app_that_is_not_there_has_no_tests(client: httpx.AsyncClient) -> None:
    body = {"reason": "r", "until": LATER.isoformat()}
    path = "/apps/other/tests/flaky"
    answers = [await client.get(path), await client.put(f"{path}/t", json=body), await client.delete(f"{path}/t")]
    assert [answer.status_code for answer in answers] == [404, 404, 404]


def test_the_page_shows_figure_threshold_trend_places_and_flaky_tests(tmp_path: Path) -> None:
    offenders = [Offender(file="src/<a>.py", line=line, message="f") for line in range(1, 9)]
    gates = [
        GateResult(
            name="complexity",
            passed=False,
            threshold=15,
            figure=16,
            bound="at most",
            previous=14.999,
            reason="16, at most 15",
            offenders=offenders,
        ),
        GateResult(name="secrets", passed=True, figure=0, threshold=0, unit="secrets", reason="0, at most 0"),
    ]
    flaky = [FlakyTest(test="t::<b>", step="test", until=LATER, what="failed in both runs")]
    pages = BuildPages(BuildLogs(tmp_path), Settings(home=tmp_path, token=TOKEN))
    page = pages.build(build(gates=gates, flaky=flaky), "localhost")
    for words in ("16, at most 15", "worse, was 14.99", "src/&lt;a&gt;.py:5 f", "3 more", "in secrets"):
        assert words in page
    assert "t::&lt;b&gt;" in page and "failed in both runs" in page and "2026-01-31" in page
    assert "<h2>Flaky tests</h2>" not in pages.build(build(), "localhost")


async def test_a_quarantine_without_an_end_lasts_14_days(client: httpx.AsyncClient) -> None:
    put = await client.put(AT_PATH, json={"reason": "the mail server is moved"})
    assert datetime.fromisoformat(put.json()["until"]) == AT + timedelta(days=14)
