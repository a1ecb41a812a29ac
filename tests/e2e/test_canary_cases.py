"""Tries what people reported of canaries, each on an app of its own, all at the same time: what is judged, and in which
words. A request is the only one of its visitor. Case run/37, a stall of the machine, is in test_told.
"""

import asyncio
import contextlib
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from bench.abort.app_source import bad_app
from shared.models import Environment
from stack.clients.connection import Connection, Lost, Response, request_bytes
from stack.clients.delivery import Deployable
from stack.clients.probe_client import wait_for
from stack.local.local_stack import LocalStack

LONGEST_S = 30  # that visitors come to a canary which should be aborted
SILENT_S = 5.0  # after which a visitor leaves
FORCED = {"x-canary": "always"}
ALL_FAIL = (
    r"analysis: errors: (\d+) of \1 requests to the canary failed \(100\.0 %\), 0 of \d+ to production \(0\.0 %\)"
)


class Visited:
    """An app with production and a canary, and what its visitors saw: `<track> <status>`, or `lost`."""

    def __init__(self, app: Deployable) -> None:
        self.app = app
        self.seen: Counter[str] = Counter()
        self.calls = app.repository.folder / ".git" / "calls"
        (app.repository.folder / "calls").write_text(str(self.calls))
        self.deliver(Environment.PRODUCTION)

    def deliver(self, environment: Environment, mode: str = "") -> None:
        (self.app.repository.folder / "canary-mode").write_text(mode)
        self.app.repository.commit(f"{environment} {mode}")
        self.app.deliver(environment)
        if environment is Environment.CANARY:
            wait_for(lambda: self.rollout()["state"] == "progressing", "the rollout", 20)

    def rollout(self) -> dict[str, Any]:
        return self.app.rollout()

    def traffic(self) -> dict[str, Any]:
        found: dict[str, Any] = self.app.call("proxy", "GET", f"/apps/{self.app.app}/traffic")
        return found

    def until_counted(self, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Returns what the analysis compares, once the condition holds and the monitor has had time to read it."""
        wait_for(lambda: condition(self.traffic()["judged"]), "what was sent is counted", 10)
        time.sleep(3)
        judged: dict[str, Any] = self.traffic()["judged"]
        return judged

    def outcome(self) -> tuple[str, str, bool]:
        """Returns the state of the rollout, its reason, and whether the analysis found harm."""
        rollout = self.rollout()
        analysis = self.app.call("monitor", "GET", f"/releases/{rollout['release']}/analysis")
        return rollout["state"], rollout["reason"], analysis["verdict"]["result"] == "fail"

    def until_aborted(self, rate: float) -> dict[str, Any]:
        """Lets visitors come until the rollout is aborted, and returns it."""
        self.crowd(["/"] * int(LONGEST_S * rate), rate, until=lambda: self.rollout()["state"] == "aborted")
        return self.rollout()

    def get(self, path: str, headers: dict[str, str] | None = None, url: str = "") -> Response:
        return asyncio.run(self._visit(path, headers or {}, url))

    def crowd(
        self,
        paths: list[str],
        rate: float,
        headers: dict[str, str] | None = None,
        until: Callable[[], bool] = lambda: False,
    ) -> None:
        """Sends a request for each path, so many a second, even if earlier ones have no answer yet, until the condition
        holds; waits for all answers."""

        async def crowd() -> None:
            visits = []
            for number, path in enumerate(paths):
                if number % 3 == 0 and await asyncio.to_thread(until):
                    break
                visits.append(asyncio.create_task(self._visit(path, headers or {})))
                await asyncio.sleep(1 / rate)
            await asyncio.gather(*visits)

        asyncio.run(crowd())

    async def _visit(self, path: str, headers: dict[str, str], url: str = "") -> Response:
        answer = Response()
        with contextlib.suppress(Lost):
            connection = await Connection.open(url or self.app.public)
            try:
                request = request_bytes("GET", path, self.app.host, headers=headers)
                answer = await connection.request(request, SILENT_S)
            finally:
                connection.close()
        self.seen[f"{answer.headers.get('x-slipway-track', '-')} {answer.status}" if answer.status else "lost"] += 1
        return answer


def hangs(app: Visited) -> Any:
    app.deliver(Environment.CANARY, "hang")
    return app.until_aborted(rate=6)


def is_cut(app: Visited) -> Any:
    app.deliver(Environment.CANARY, "cut")
    return app.until_aborted(rate=6)


def fails_for_few(app: Visited) -> Any:
    app.deliver(Environment.CANARY, "fail")
    return app.until_aborted(rate=2)


def is_forced(app: Visited) -> Any:
    app.deliver(Environment.CANARY)
    app.crowd(["/"] * 40, rate=10)
    app.crowd(["/fail"] * 25, rate=25, headers=FORCED)
    return app.until_counted(lambda judged: judged["left_out"].get("forced", 0) >= 25)


def dies(app: Visited) -> Any:
    app.deliver(Environment.CANARY)
    died = app.get("/die", FORCED).status
    production = [app.get("/", {"x-canary": "never"}).status for _ in range(6)]
    reset = app.get("/reset", url=app.app.production).status

    def errors() -> int:
        return int(app.traffic()["tracks"]["stable"]["errors"])

    wait_for(lambda: errors() > 0, "the reset is counted", 10)
    time.sleep(1)
    return died, production, reset, errors(), app.calls.read_text().split("\n")


def has_an_outage_of_both(app: Visited) -> Any:
    app.deliver(Environment.CANARY)
    app.app.call("proxy", "PUT", f"/apps/{app.app.app}/rollout", {"weight": 95})
    app.crowd(["/"] * 60, rate=15)
    app.crowd(["/fail"] * 80, rate=20)
    return app.until_counted(lambda judged: sum(track["requests"] for track in judged["tracks"].values()) >= 140)


def streams(app: Visited) -> Any:
    app.deliver(Environment.CANARY)
    app.crowd([path for _ in range(30) for path in ("/events", "/", "/", "/")], rate=20)
    return app.until_counted(lambda judged: sum(track["requests"] for track in judged["tracks"].values()) >= 120)


def gives_cookies(app: Visited) -> Any:
    cookies: list[str] = []
    for _ in range(2):
        app.deliver(Environment.CANARY)
        cookies.append(app.get("/", {"cookie": cookies[-1].partition(";")[0]} if cookies else {}).headers["set-cookie"])
    app.app.rollout("abort", release=app.rollout()["release"])
    held = cookies[-1].partition(";")[0]
    wait_for(lambda: "set-cookie" in app.get("/", {"cookie": held}).headers, "the cookie is taken back", 10)
    return [*cookies, app.get("/", {"cookie": held}).headers["set-cookie"]]


Ran = Callable[[Callable[[Visited], Any]], tuple[Visited, Any]]
CASES = (has_an_outage_of_both, hangs, is_cut, fails_for_few, is_forced, dies, streams, gives_cookies)


@pytest.fixture(scope="module")
def cases(stack: LocalStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ran]:
    """Runs all cases at the same time, and gives each with what it returned."""

    def run(case: Callable[[Visited], Any]) -> tuple[Visited, Any]:
        name = case.__name__.replace("_", "-")
        app = Visited(bad_app(stack, name, tmp_path_factory.mktemp(name)))
        return app, case(app)

    with ThreadPoolExecutor(len(CASES)) as pool:
        running: dict[Any, Future[tuple[Visited, Any]]] = {case: pool.submit(run, case) for case in CASES}
        yield lambda case: running[case].result()


def test_a_canary_that_hangs_is_aborted(cases: Ran) -> None:
    _, rollout = cases(hangs)
    assert rollout["state"] == "aborted" and re.fullmatch(ALL_FAIL, rollout["reason"]), rollout
    assert "hanging" in rollout["evidence"]["seen"]["errors_by_kind"]["canary"]


def test_a_canary_that_cuts_its_answers_is_aborted(cases: Ran) -> None:
    _, rollout = cases(is_cut)
    assert rollout["state"] == "aborted" and re.fullmatch(ALL_FAIL, rollout["reason"]), rollout
    assert set(rollout["evidence"]["seen"]["errors_by_kind"]["canary"]) == {"cut"}


def test_a_canary_that_fails_for_few_visitors_is_aborted_before_the_thirteenth(cases: Ran) -> None:
    app, rollout = cases(fails_for_few)
    assert rollout["state"] == "aborted" and re.fullmatch(ALL_FAIL, rollout["reason"]), rollout
    assert app.seen["canary 500"] < 13, app.seen


def test_requests_that_chose_the_canary_abort_nothing(cases: Ran) -> None:
    app, judged = cases(is_forced)
    assert app.seen["canary 500"] == 25 <= judged["left_out"]["forced"]
    assert {name: (track["requests"], track["errors"]) for name, track in judged["tracks"].items()} == {
        name: (app.seen[f"{name} 200"], {}) for name in ("stable", "canary")
    }
    assert app.outcome() == ("progressing", "the canary is ready", False)


def test_a_request_that_ends_the_canary_does_not_reach_production_and_a_reset_is_not_sent_again(cases: Ran) -> None:
    app, (died, production, reset, errors, calls) = cases(dies)
    assert (died, production, reset, errors) == (503, [200] * 6, 503, 1)
    names = [f"{app.app.app}-r2-1", f"{app.app.app}-r1-1"]
    assert calls == [f"died canary {names[0]}", f"reset stable {names[1]}", ""]


def test_an_outage_of_both_is_not_the_canarys(cases: Ran) -> None:
    app, judged = cases(has_an_outage_of_both)
    assert judged["tracks"]["canary"]["errors"]["status"] > 20
    assert app.outcome() == ("progressing", "the canary is ready", False)


def test_the_life_of_an_event_stream_is_no_latency(cases: Ran) -> None:
    app, judged = cases(streams)
    tracks = judged["tracks"].values()
    assert judged["left_out"]["stream"] == 30
    assert sum(track["latency"]["counts"][-1] for track in tracks) == sum(track["requests"] for track in tracks) - 30
    assert app.outcome() == ("progressing", "the canary is ready", False)


def test_a_visitor_has_one_cookie_of_an_app_and_none_once_the_rollout_has_ended(cases: Ran) -> None:
    app, cookies = cases(gives_cookies)
    name = f"slipway-{app.app.app}"
    assert [cookie.partition(".")[0] for cookie in cookies[:2]] == [f"{name}={app.app.app}-r{n}" for n in (2, 3)]
    assert cookies[2].startswith(f"{name}=;") and "Max-Age=0" in cookies[2]
