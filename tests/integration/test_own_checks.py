"""Apps' own metrics and hooks are called while a rollout goes on, and hold or fail it, on real Redis."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from services.monitor.checks.after_hooks import AfterHooks
from services.monitor.checks.analysis_settings import AnalysisBody
from services.monitor.checks.check_client import CheckClient
from services.monitor.checks.check_store import DUE, SETTINGS, CheckStore
from services.monitor.checks.own_checks import OwnChecks
from services.monitor.config import Settings
from shared.errors import Invalid
from shared.models import Event
from shared.proxy_models import RolloutView, VerdictResult, VerdictSummary
from shared.security.outgoing import AddressGuard
from shared.security.vault import Vault
from tests.support.monitor.analysed import AT, SetClock, rollout
from tests.support.monitor.monitor_world import Monitor, World, appended_events

pytestmark = pytest.mark.anyio
OUTSIDE = "http://127.0.0.1:8000"
METRIC = {"name": "rate", "url": f"{OUTSIDE}/rate", "at_least": 0.95, "headers": {"X-Key": "s3cretkey"}}
VERDICT = VerdictSummary(result=VerdictResult.INCONCLUSIVE, score=55, reason="too few", at=AT)


def hook(when: str, **fields: Any) -> dict[str, Any]:
    return {"name": when, "url": f"{OUTSIDE}/{when}", "when": when, **fields}


async def settled() -> None:
    """Waits for the end of the calls under way."""
    for task in asyncio.all_tasks():
        if task.get_name().startswith(("own checks", "hooks after")):
            await task


class Own:
    """Own checks of one monitor, whose outside servers answer as `answers` says: path → status and body."""

    def __init__(self, redis: Redis, home: Path, clock: SetClock) -> None:
        self.rollouts: list[RolloutView] = [rollout()]
        self.answers: dict[str, tuple[int, Any]] = {}
        self.called: list[httpx.Request] = []
        self.clock = clock
        self.store = CheckStore(redis)
        self.client = CheckClient(AddressGuard("*"), inner=httpx.MockTransport(self._answer))
        self.checks = OwnChecks(
            self.store,
            self.client,
            lambda: Vault(home / "key", "monitor:checks"),
            lambda: self.rollouts,
            lambda release: VERDICT,
            clock,
        )
        self.after = AfterHooks(self.store, self.client, self.checks, lambda release: VERDICT, clock, lambda: None)

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        self.called.append(request)
        if request.url.path == "/hangs":
            await asyncio.Event().wait()
        status, body = self.answers.get(request.url.path, (503, None))
        return httpx.Response(status, json=body)

    async def set(self, *metrics: dict[str, Any], hooks: tuple[dict[str, Any], ...] = ()) -> None:
        await self.checks.put("notes", AnalysisBody.model_validate({"metrics": [*metrics], "hooks": [*hooks]}))

    async def round(self, seconds: float = 10) -> None:
        """Makes the checks that are due, and waits for their end; the next round is so many seconds later."""
        await self.checks.step()
        await settled()
        await self.checks.step()  # tells people
        self.clock.after(seconds)

    async def holds(self, step: int = 0) -> list[tuple[str, str]]:
        """Returns the name and result of each check that does not let the step end."""
        found = await self.checks.gate_checks("notes", "notes-r9", step)
        return [(check.name, str(check.result)) for check in found if check.result is not VerdictResult.PASS]

    def paths(self) -> list[str]:
        return [request.url.path for request in self.called]


@pytest.fixture
async def own(redis: Redis, tmp_path: Path) -> AsyncIterator[Own]:
    made = Own(redis, tmp_path, SetClock())
    yield made
    await made.checks.close()
    await made.after.close()


async def test_a_metric_within_its_bound_lets_a_step_end(own: Own) -> None:
    own.answers = {"/rate": (200, {"value": 0.99})}
    await own.set(METRIC)
    assert await own.holds() == [("own metric rate", "inconclusive")]
    await own.round()

    assert await own.holds() == []
    assert own.checks.failure("notes-r9") is None
    assert own.called[0].headers["x-key"] == "s3cretkey"


async def test_a_metric_beyond_its_bound_fails_the_canary_at_the_third_check_in_a_row(own: Own) -> None:
    own.answers = {"/rate": (200, {"value": 0.91})}
    await own.set(METRIC)
    for _ in range(2):
        await own.round()
        assert own.checks.failure("notes-r9") is None
        assert await own.holds() == [("own metric rate", "inconclusive")]
    await own.round()

    assert own.checks.failure("notes-r9") == "own metric rate: 0.91 is below 0.95, 3 times in a row"
    assert await own.holds() == [("analysis", "fail")]
    assert own.checks.failure("notes-r8") is None


async def test_a_metric_is_called_every_ten_seconds_only_while_a_rollout_is_open(own: Own) -> None:
    own.answers = {"/rate": (200, 1)}
    await own.set(METRIC)
    for _ in range(20):
        await own.round(seconds=1)
    assert len(own.called) == 2
    own.rollouts = []
    await own.round()
    assert len(own.called) == 2


async def test_an_error_of_a_check_holds_and_never_fails_and_is_told_once(own: Own, redis: Redis) -> None:
    await own.set(METRIC)
    for _ in range(8):
        await own.round()

    assert await own.holds() == [("own metric rate", "inconclusive")]
    assert own.checks.failure("notes-r9") is None
    [event] = await appended_events(redis)
    assert (event.type, event.id, event.reason) == ("analysis.error", "notes-r9", "own metric rate answered 503")
    own.answers = {"/rate": (200, 1)}
    await own.round()
    assert await own.holds() == []


async def test_a_hook_before_holds_only_the_first_step(own: Own) -> None:
    await own.set(hooks=(hook("before"),))
    await own.round()
    assert await own.holds(step=0) == [("hook before", "inconclusive")]
    assert await own.holds(step=1) == []
    own.answers = {"/before": (204, None)}
    await own.round()
    await own.round(seconds=3600)
    assert await own.holds(step=0) == []
    assert own.paths() == ["/before"] * 2


async def test_a_hook_gets_what_the_rollout_does(own: Own) -> None:
    own.answers = {"/during": (200, {"pass": True})}
    await own.set(hooks=(hook("during"),))
    await own.round()

    assert json.loads(own.called[0].content) == {
        **{"app": "notes", "release": "notes-r9", "environment": "canary", "when": "during", "step": 0, "weight": 5},
        **{"state": "progressing", "reason": None, "verdict": VERDICT.model_dump(mode="json")},
    }


async def test_a_hook_that_says_no_fails_the_canary(own: Own) -> None:
    own.answers = {"/during": (200, {"pass": False, "reason": "no stock"})}
    await own.set(hooks=(hook("during"),))
    await own.round()
    assert own.checks.failure("notes-r9") == "hook during: it says no: no stock"


async def test_a_server_that_hangs_delays_no_other_check(own: Own) -> None:
    own.answers = {"/rate": (200, 1)}
    hanging = METRIC | {"name": "hangs", "url": f"{OUTSIDE}/hangs"}
    await own.set(hanging, METRIC)
    for _ in range(3):
        await own.checks.step()
        while own.paths().count("/rate") < 1 or await own.holds() != [("own metric hangs", "inconclusive")]:
            await asyncio.sleep(0.001)
        own.clock.after(10)
        own.called.clear()


async def test_while_the_settings_cannot_be_read_steps_are_held(own: Own) -> None:
    assert await own.holds() == [("own metrics and hooks", "inconclusive")]


async def test_settings_survive_a_restart_and_hold_no_header_in_plain_text(
    own: Own, redis: Redis, tmp_path: Path
) -> None:
    await own.set(METRIC)
    assert "s3cretkey" not in str(await redis.hgetall(SETTINGS))
    after = Own(redis, tmp_path, own.clock)
    after.answers = {"/rate": (200, 1)}
    await after.round()
    assert after.called[0].headers["x-key"] == "s3cretkey"


async def test_headers_of_another_key_are_an_error_of_the_check(own: Own, redis: Redis, tmp_path: Path) -> None:
    await own.set(METRIC)
    (tmp_path / "other").mkdir()
    after = Own(redis, tmp_path / "other", own.clock)
    await after.round()
    [state] = after.checks.states("notes-r9")
    assert (state.result, state.reason) == ("error", "its headers cannot be decrypted; set their values again")
    assert after.called == []


async def test_a_check_that_is_changed_begins_anew_and_others_keep_their_state(own: Own) -> None:
    own.answers = {"/rate": (200, 0.5), "/other": (200, 0.5)}
    other = METRIC | {"name": "other", "url": f"{OUTSIDE}/other"}
    await own.set(METRIC, other)
    await own.round()
    await own.round()
    kept = METRIC | {"headers": {"X-Key": None}}
    await own.set(kept, other | {"at_least": 0.1, "headers": {"X-Key": None}})
    await own.round()
    assert own.checks.failure("notes-r9") == "own metric rate: 0.5 is below 0.95, 3 times in a row"
    assert [state.in_a_row for state in own.checks.states("notes-r9")] == [3, 0]


async def test_wrong_settings_change_nothing(own: Own, redis: Redis) -> None:
    with pytest.raises(Invalid):
        await own.set(METRIC | {"headers": {"X-Key": None}})
    assert await redis.hgetall(SETTINGS) == {}


def ended(state: str = "aborted") -> Event:
    return Event(type=f"rollout.{state}", app="notes", at=AT, id="notes-r9", reason="errors", weight=33, step=1)


async def test_a_hook_after_is_called_once_for_each_end(own: Own, redis: Redis) -> None:
    own.answers = {"/after": (200, {"pass": False})}  # says nothing about what has ended
    await own.set(hooks=(hook("after"), hook("during")))
    await own.after.on_event(ended())
    await own.after.step()
    await settled()

    assert own.paths() == ["/after"]
    body = json.loads(own.called[0].content)
    assert (body["when"], body["state"], body["reason"], body["weight"]) == ("after", "aborted", "errors", 33)
    assert await redis.hgetall(DUE) == {}
    assert await own.after.step() is None


async def test_a_hook_after_outlives_the_monitor_until_it_answers(own: Own, redis: Redis, tmp_path: Path) -> None:
    await own.set(hooks=(hook("after"),))
    for _ in range(2):  # the event may be handled again
        await own.after.on_event(ended("promoted"))
    for _ in range(3):
        await own.after.step()
        await settled()
        own.clock.after(300)
    next_one = Own(redis, tmp_path, own.clock)
    next_one.answers = {"/after": (204, None)}
    await next_one.after.step()
    await settled()

    assert own.paths() == ["/after"] * 3 and next_one.paths() == ["/after"]
    assert await redis.hgetall(DUE) == {}


async def test_a_hook_after_that_never_answers_is_told_and_given_up_after_a_day(own: Own, redis: Redis) -> None:
    await own.set(hooks=(hook("after"),))
    await own.after.on_event(ended())
    for _ in range(30):
        await own.after.step()
        await settled()
        own.clock.after(3600)

    assert [event.reason for event in await appended_events(redis)] == ["hook after answered 503"]
    assert await redis.hgetall(DUE) == {}
    assert len(own.called) == 25


async def test_nothing_of_a_removed_app_is_left(own: Own, redis: Redis) -> None:
    await own.set(METRIC, hooks=(hook("after"),))
    await own.after.on_event(ended())
    await own.checks.forget("notes")
    own.after.forget("notes")
    await own.after.step()
    await own.round()
    assert own.called == [] and await redis.keys("monitor:*") == []


async def test_a_failing_own_metric_aborts_the_canary_by_the_rule_analysis(tmp_path: Path, redis: Redis) -> None:
    world = World()
    world.outside_answers = {"/rate": (200, 0.5)}
    settings = Settings(home=tmp_path, token=SecretStr("token"))
    async with httpx.AsyncClient(transport=httpx.MockTransport(world.answer)) as http:
        monitor = Monitor(world, settings, http, redis)
        checks = monitor.evidence.checks
        await checks.put("notes", AnalysisBody.model_validate({"metrics": [METRIC]}))
        for _ in range(4):
            await monitor.second(canary=(50, 0), stable=(100, 0))
            await checks.step()
            await settled()
            world.time += timedelta(seconds=9)
        await checks.close()

    [abort] = world.aborts
    assert abort["reason"] == "analysis: own metric rate: 0.5 is below 0.95, 3 times in a row"
    assert (abort["evidence"]["rule"], "own_check" in abort["evidence"]["seen"]) == ("analysis", True)
