"""The analysis of a rollout is answered as JSON and as a page; the secrets of own metrics and hooks are never shown."""

import re
from collections.abc import AsyncIterator
from datetime import timedelta
from html import unescape
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr
from redis.asyncio import Redis

from services.monitor.api.analysis_view import analysis_view, series_items
from services.monitor.api.page_views import MonitorPages
from services.monitor.checks.check_state import CheckKind, CheckState, measured
from services.monitor.config import Settings
from services.monitor.evidence.evidence_store import EvidenceStore
from services.monitor.evidence.recorder import EvidenceRecorder
from services.monitor.evidence.series import SeriesPoint, TrackPoint
from services.monitor.main import build_app
from shared.config import SharedSettings
from shared.models import Event
from shared.proxy_models import VerdictResult
from tests.support.monitor.analysed import AT, SetClock, analysis, harm, judged, rollout, verdict, window
from tests.support.monitor.service import started
from tests.support.ports import free_port
from tests.unit.monitor.checks.test_check_state import METRIC as OWN_METRIC

pytestmark = pytest.mark.anyio
HTML = {"Accept": "text/html"}
METRIC = {
    "name": "rate",
    "url": "https://metrics.example.com/rate",
    "at_least": 0.95,
    "headers": {"X-Key": "s3cretkey"},
}
HOOK = {"name": "smoke", "url": "https://ci.example.com/smoke", "when": "before"}


@pytest.fixture
def app(tmp_path: Path, redis_server: str, redis: Redis) -> FastAPI:
    settings = Settings(home=tmp_path, token=SecretStr("token"), redis_url=redis_server)
    settings.deployer_port, settings.proxy_port = free_port(), free_port()
    return build_app(settings)


@pytest.fixture
async def http(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with started(app) as client:
        yield client


async def recorded(redis: Redis, *, windows: int = 60) -> None:
    """Stores a rollout that was aborted: 2 s windows, whose canary fails one request of ten, a gate, an own metric."""
    clock = SetClock()
    own = measured(CheckState(name="rate", kind=CheckKind.METRIC), OWN_METRIC, 0.91, AT)
    recorder = EvidenceRecorder(EvidenceStore(redis), lambda release: [own], clock)
    failed = verdict(VerdictResult.FAIL, 0, harms=[harm(capital=140, effect=8.0), harm("latency", unit="%", bound=30)])
    for number in range(1, windows + 1):
        clock.after(2)
        of = analysis(failed if number == windows else verdict(), judged(recognised=10 * number, forced=25))
        recorder.on_window(of, window(2 * number, (10, 1), (20, 0), step=int(number > 30), weight=5))
    recorder.on_rollout(rollout(hold="<b>no visitor</b> yet"))
    at = AT + timedelta(seconds=130)
    await recorder.on_event(Event(type="rollout.aborted", app="notes", at=at, id="notes-r9", reason=failed.reason))


def words(page: str) -> str:
    """Returns the page's text as a reader sees it."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", page)).split())


async def test_an_analysis_is_answered_with_all_that_is_kept(http: httpx.AsyncClient, redis: Redis) -> None:
    await recorded(redis)
    found = (await http.get("/releases/notes-r9/analysis")).json()

    assert (found["app"], found["release"], found["ended"]) == ("notes", "notes-r9", "aborted")
    assert (found["verdict"]["result"], found["verdict"]["score"]) == ("fail", 0)
    assert [(each["name"], each["capital"]) for each in found["verdict"]["harms"]] == [("errors", 140), ("latency", 1)]
    assert [(step["step"], step["seconds"]) for step in found["steps"]] == [(0, 60), (1, 60)]
    assert found["totals"]["canary"] == {"requests": 600, "errors": 60, "client_errors": 60}
    assert (found["left_out"]["forced"], found["recognised_share"]) == (25, pytest.approx(600 / 1800))
    assert [each["title"] for each in found["verdicts"]] == ["aborted", "step 1 goes on"]
    assert found["checks"][0]["reason"] == "0.91 is below 0.95, once in a row of 3"
    newest = found["series"][0]
    assert (newest["at"], newest["canary_errors"], newest["stable_errors"]) == ("2026-01-01T00:02:00Z", 10.0, 0.0)
    assert (newest["errors_at_most"], newest["p50_at_most_ms"]) == (1.5, 6.5)
    assert len(found["series"]) == 12 and found["series_step"] == 10


async def test_the_page_says_all_of_it_without_scripts(http: httpx.AsyncClient, redis: Redis) -> None:
    await recorded(redis)
    page = (await http.get("/releases/notes-r9/analysis", headers=HTML)).text
    said = words(page)

    for text in (
        "fail worse than production; score 0 of 100",
        "errors: 12 of 130 requests to the canary failed (9.2 %), 3 of 260 to production (1.2 %)",
        "Opened 2026-01-01 00:00:00 UTC ; aborted 2026-01-01 00:02:10 UTC",
        "errors 8 points 0.5 points 1.5 points 140",
        "latency 0.2 % 0.5 % 30 % 1",
        "Requests 1200 600",
        "Failed 0 of 1200 (0 %) 60 of 600 (10 %)",
        "A cookie told the visitor of 33 % of these requests",
        "25 left out the visitor chose the track, by the header x-canary or the port",
        "own metric rate beyond 0.91 is below 0.95, once in a row of 3",
        "step 1 goes on at 5 % - <b>no visitor</b> yet",
    ):
        assert text in said, text
    assert "<b>no visitor</b>" not in page
    assert page.count("data-chart=") == 4 and "http-equiv" not in page  # it has ended


async def test_a_rollout_without_a_request_says_so(http: httpx.AsyncClient, redis: Redis) -> None:
    recorder = EvidenceRecorder(EvidenceStore(redis), lambda release: [], SetClock())
    await recorder.on_event(Event(type="rollout.promoted", app="notes", at=AT, id="notes-r9", reason="by hand"))
    said = words((await http.get("/releases/notes-r9/analysis", headers=HTML)).text)
    assert "No requests: the rollout ended before a visitor's request was counted." in said
    assert "No request has been counted." in said
    found = (await http.get("/releases/notes-r9/analysis")).json()
    assert (found["verdict"], found["series"], found["ended"]) == (None, [], "promoted")


async def test_an_open_rollout_that_nobody_has_visited_is_shown(redis: Redis) -> None:
    recorder = EvidenceRecorder(EvidenceStore(redis), lambda release: [], SetClock())
    recorder.on_rollout(rollout())
    found = await recorder.read("notes-r9")
    assert found is not None
    page = MonitorPages(SharedSettings()).analysis(analysis_view(*found, []), None)
    assert "No requests yet: no visitor's request has been counted since the rollout was opened." in words(page)
    assert 'http-equiv="refresh"' in page and 'hx-trigger="every 5s"' in page


async def test_a_release_without_a_rollout_is_not_found(http: httpx.AsyncClient) -> None:
    answer = await http.get("/releases/notes-r1/analysis")
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")
    assert "only canaries have one" in answer.json()["detail"]


def test_the_bounds_are_those_of_all_that_was_seen_until_then() -> None:
    def point(at_s: float, errors: int, bound: float | None) -> SeriesPoint:
        stable = TrackPoint(requests=100, errors=errors, p50_ms=20.0)
        fields = {"seconds": 10, "weight": 33, "stable": stable, "canary": TrackPoint()}
        return SeriesPoint(at_s=at_s, error_bound=bound, latency_bound=bound, **fields)

    items = series_items(AT, [point(10, 4, None), point(20, 0, 3.0), point(30, 300, 99.0)])
    assert [each.errors_at_most for each in items] == [None, 5.0, 100.0]
    assert [each.p50_at_most_ms for each in items] == [None, 20.6, 39.8]
    assert [each.canary_errors for each in items] == [None, None, None]


async def put(http: httpx.AsyncClient, *metrics: dict[str, Any], hooks: list[dict[str, Any]] | None = None) -> Any:
    return await http.put("/apps/notes/analysis", json={"metrics": [*metrics], "hooks": hooks or []})


async def test_own_metrics_and_hooks_are_set_shown_without_secrets_and_deleted(
    http: httpx.AsyncClient, redis: Redis
) -> None:
    assert (await http.get("/apps/notes/analysis")).status_code == 404
    answer = await put(http, METRIC, hooks=[HOOK])
    assert answer.status_code == 200
    shown = (await http.get("/apps/notes/analysis")).json()
    assert answer.json() == shown and "s3cretkey" not in answer.text
    [metric], [hook] = shown["metrics"], shown["hooks"]
    assert (metric["headers"], metric["threshold"], hook["when"]) == ({"X-Key": None}, 3, "before")

    again = {name: shown[name] for name in ("metrics", "hooks")}
    assert (await http.put("/apps/notes/analysis", json=again)).status_code == 200  # what was shown may be sent back
    assert (await http.delete("/apps/notes/analysis")).status_code == 204
    assert (await http.get("/apps/notes/analysis")).status_code == 404
    assert (await http.delete("/apps/notes/analysis")).status_code == 404
    assert await redis.keys("monitor:checks") == []


@pytest.mark.parametrize(
    ("metric", "field"),
    [
        (METRIC | {"url": "http://127.0.0.1:3001/stats"}, "metrics.0.url"),
        (METRIC | {"url": "http://[::ffff:10.0.0.1]/"}, "metrics.0.url"),
        (METRIC | {"url": "http://0x7f.1/"}, "metrics.0.url"),
        (METRIC | {"headers": {"X-Key": None}}, "metrics.0.headers.X-Key"),
        (METRIC | {"at_least": None}, "metrics.0"),
        (METRIC | {"at_least": True}, "metrics.0.at_least"),
        (METRIC | {"password": "s3cretkey"}, "metrics.0.password"),
    ],
)
async def test_wrong_settings_name_the_field_and_no_value(
    http: httpx.AsyncClient, metric: dict[str, Any], field: str
) -> None:
    answer = await put(http, metric)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == field
    assert "s3cretkey" not in answer.text
