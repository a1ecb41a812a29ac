"""Rollouts with steps through the service: shares, requests that are repeated or come too late, restarts."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from shared.canary import Canary
from shared.errors import Conflict, Invalid
from shared.proxy_models import RolloutAdvance, RolloutState, RolloutView, VerdictResult, VerdictSummary
from tests.support.proxy.plane import Plane
from tests.support.proxy.routes import NOW, endpoint, route

pytestmark = pytest.mark.anyio

ROUTE = route(endpoint("notes-r1-1"), canary=(endpoint("notes-r2-1", port=20001),))
STEPS = [{"weight": 5, "for": "2m"}, {"weight": 33, "for": "10m"}]
PAUSED = [{"weight": 5, "for": "2m", "pause": True}, {"weight": 33, "for": "10m"}]
ONLY_PAUSED: list[dict[str, Any]] = [
    {"weight": 5, "pause": True},
    {"weight": 33, "pause": True},
    {"weight": 60, "for": "1m"},
]
P, S = RolloutState.PROGRESSING, RolloutState.PAUSED


@pytest.fixture
def plane(tmp_path: Path, redis: Redis) -> Plane:
    return Plane(tmp_path, redis, ROUTE)


async def opened(plane: Plane, steps: list[dict[str, Any]] = STEPS, **canary: Any) -> RolloutView:
    manifest = Canary.model_validate({"steps": steps, **canary})
    return await plane.rollouts.open("notes", "notes-r2", 50, [], manifest, "k" * 20)


def gate(step: int, result: VerdictResult = VerdictResult.PASS, hold: str = "") -> RolloutAdvance:
    verdict = VerdictSummary(result=result, score=90, reason="harm is ruled out", at=NOW)
    return RolloutAdvance(release="notes-r2", step=step, verdict=verdict, hold=hold)


async def passes(plane: Plane, step: int) -> RolloutView:
    return await plane.rollouts.advance("notes", gate(step))


def where(view: RolloutView) -> tuple[RolloutState | None, int, int]:
    return view.state, view.step, view.weight


async def test_each_step_sets_its_share_and_is_an_event(plane: Plane) -> None:
    assert where(await opened(plane)) == (P, 0, 5)
    plane.now += timedelta(seconds=121)
    view = await passes(plane, 0)
    assert where(view) == (P, 1, 33)
    assert (view.opened_at, view.step_at, view.step_ends_at) == (NOW, plane.now, plane.now + timedelta(minutes=10))
    assert view.verdict == view.ended_steps[0].verdict == gate(0).verdict
    plane.now += timedelta(seconds=601)
    assert where(await passes(plane, 1)) == (P, 2, 33)
    events = [event.model_dump() for event in await plane.events()]
    seen = [(event["type"], event["step"], event["weight"], event["passed"]) for event in events]
    name = "rollout.progressing"
    assert seen == [(name, 0, 5, False), (name, 1, 33, False), (name, 2, 33, True)]


async def test_a_repeated_end_of_a_step_changes_nothing(plane: Plane) -> None:
    await opened(plane)
    once = await passes(plane, 0)
    plane.now += timedelta(seconds=5)
    assert await passes(plane, 0) == once
    await plane.rollouts.skip("notes", "notes-r2", "", 0)
    assert await plane.rollouts.resume("notes", "notes-r2", "", 0) == once
    assert len(await plane.events()) == 2


async def test_a_step_that_has_not_begun_cannot_end(plane: Plane) -> None:
    await opened(plane)
    with pytest.raises(Conflict, match="notes-r2 is at step 0 still"):
        await passes(plane, 1)
    with pytest.raises(Conflict, match="is at step 0 still"):
        await plane.rollouts.skip("notes", "notes-r2", "", 1)


async def test_a_failed_verdict_ends_no_step(plane: Plane) -> None:
    await opened(plane)
    with pytest.raises(Invalid, match="abort its rollout"):
        await plane.rollouts.advance("notes", gate(0, VerdictResult.FAIL))
    assert where(plane.rollouts.view("notes")) == (P, 0, 5)
    held = await plane.rollouts.advance("notes", gate(0, VerdictResult.FAIL, "the canary has failed: errors"))
    assert (where(held), held.hold) == ((P, 0, 5), "the canary has failed: errors")


async def test_a_pause_waits_for_a_person_with_the_share_that_it_has(plane: Plane) -> None:
    await opened(plane, PAUSED)
    plane.now += timedelta(seconds=121)
    view = await passes(plane, 0)
    assert where(view) == (S, 0, 5)
    assert view.reason is not None and 'POST /apps/notes/rollout/resume {"release": "notes-r2"}' in view.reason
    assert await passes(plane, 0) == view
    plane.start()
    assert plane.rollouts.view("notes") == view
    assert where(await plane.rollouts.resume("notes", "notes-r2", "")) == (P, 1, 33)
    assert [event.type for event in await plane.events()] == [
        "rollout.progressing",
        "rollout.paused",
        "rollout.progressing",
    ]


async def test_pauses_without_a_time_follow_one_another(plane: Plane) -> None:
    assert where(await opened(plane, ONLY_PAUSED)) == (S, 0, 5)
    assert where(await plane.rollouts.resume("notes", "notes-r2", "", 0)) == (S, 1, 33)
    assert where(await plane.rollouts.resume("notes", "notes-r2", "", 0)) == (S, 1, 33)
    assert where(await plane.rollouts.resume("notes", "notes-r2", "", 1)) == (P, 2, 60)


async def test_a_skip_ends_the_step_at_once_also_one_that_waits(plane: Plane) -> None:
    await opened(plane, PAUSED)
    await passes(plane, 0)
    view = await plane.rollouts.skip("notes", "notes-r2", "it is Friday", None)
    assert (where(view), view.reason) == ((P, 1, 33), "step 2 of 2: 33 % of visitors; it is Friday")
    view = await plane.rollouts.skip("notes", "notes-r2", "half a pair \ud800", None)
    assert (where(view), view.ended_steps[1].reason) == ((P, 2, 33), "half a pair ?")
    with pytest.raises(Conflict, match="all its steps have ended; promote it or abort it"):
        await plane.rollouts.skip("notes", "notes-r2", "", None)


async def test_a_fixed_share_has_no_steps_to_end(plane: Plane) -> None:
    view = await plane.rollouts.open("notes", "notes-r2", 40, [])
    assert (where(view), view.steps, view.step_ends_at) == ((P, 0, 40), [], None)
    with pytest.raises(Conflict, match="its share is fixed; promote it or abort it"):
        await passes(plane, 0)
    with pytest.raises(Conflict, match="its share is fixed"):
        await plane.rollouts.skip("notes", "notes-r2", "", None)
    assert where(await plane.rollouts.resume("notes", "notes-r2", "", 0)) == (P, 0, 40)


async def test_a_share_set_by_hand_holds_until_the_step_ends(plane: Plane) -> None:
    await opened(plane)
    await plane.rollouts.set("notes", None, 12)
    assert where(plane.rollouts.view("notes")) == (P, 0, 12)
    assert where(await passes(plane, 0)) == (P, 1, 33)


async def test_a_rollout_that_is_switched_off_stays_off_at_the_next_step(plane: Plane) -> None:
    await opened(plane)
    await plane.rollouts.set("notes", False, None)
    view = await passes(plane, 0)
    assert (view.enabled, where(view)) == (False, (P, 1, 33))


async def test_a_hold_is_shown_and_is_no_event(plane: Plane) -> None:
    await opened(plane)
    asked = gate(0, VerdictResult.INCONCLUSIVE, "the canary has had 40 requests that count, 60 more are needed")
    view = await plane.rollouts.advance("notes", asked)
    assert (view.hold, view.verdict, where(view)) == (asked.hold, asked.verdict, (P, 0, 5))
    assert await plane.rollouts.advance("notes", asked) == view
    assert (await passes(plane, 0)).hold == ""
    assert len(await plane.events()) == 2


async def test_a_rollout_that_is_being_promoted_or_was_paused_by_the_platform_ends_no_step(plane: Plane) -> None:
    await opened(plane)
    plane.now += timedelta(seconds=20)
    await plane.probe_deployer(*[False] * 20)
    assert plane.rollouts.view("notes").state is S
    for change in (passes(plane, 0), plane.rollouts.skip("notes", "notes-r2", "", None)):
        with pytest.raises(Conflict, match="does not answer"):
            await change
    await plane.probe_deployer(*[True] * 5)
    assert plane.rollouts.view("notes").step_ends_at is not None
    await plane.rollouts.promote("notes", "notes-r2")
    assert plane.rollouts.view("notes").step_ends_at is None
    for change in (passes(plane, 0), plane.rollouts.skip("notes", "notes-r2", "", None)):
        with pytest.raises(Conflict, match="is being promoted"):
            await change


@pytest.mark.parametrize("action", ["advance", "skip", "resume"])
async def test_an_aborted_rollout_goes_no_further(plane: Plane, action: str) -> None:
    await opened(plane)
    await plane.rollouts.abort("notes", "notes-r2", "errors", {})
    actions = {
        "advance": lambda: passes(plane, 0),
        "skip": lambda: plane.rollouts.skip("notes", "notes-r2", "", None),
        "resume": lambda: plane.rollouts.resume("notes", "notes-r2", ""),
    }
    with pytest.raises(Conflict, match="is aborted"):
        await actions[action]()


async def test_a_newer_release_begins_with_its_own_first_step(plane: Plane) -> None:
    await opened(plane)
    await passes(plane, 0)
    canary = Canary.model_validate({"steps": [{"weight": 10, "for": "1m"}]})
    assert where(await plane.rollouts.open("notes", "notes-r3", 10, [], canary)) == (P, 0, 10)
    before = plane.rollouts.earlier("notes")[0]
    assert (before.reason, before.step, before.override_key) == ("superseded", 1, "")


async def test_a_repeated_opening_goes_back_no_step(plane: Plane) -> None:
    await opened(plane)
    view = await passes(plane, 0)
    assert await opened(plane) == view


async def test_a_restart_goes_on_at_the_step_with_the_key(plane: Plane) -> None:
    await opened(plane)
    view = await passes(plane, 0)
    plane.start()
    assert plane.rollouts.view("notes") == view
    rollout = plane.control.route("notes").rollout
    assert rollout is not None and rollout.override_key == "k" * 20
    assert "k" * 20 not in view.model_dump_json()


async def test_a_canary_that_passed_is_promoted_by_itself_and_a_refusal_pauses_it(plane: Plane) -> None:
    release: dict[str, Any] = {"app": "notes", "build": "notes-7", "commit": "0" * 40, "created_at": NOW.isoformat()}
    canary = {**release, "id": "notes-r2", "environment": "canary", "state": "live"}
    releases = "/apps/notes/environments/production/releases"
    plane.deployer["GET /releases/notes-r2"] = (200, canary)
    plane.deployer[f"GET {releases}"] = (200, {"items": []})
    plane.deployer[f"POST {releases}"] = (409, {"detail": "notes-7 has not run steps that production asks for: load"})
    await opened(plane, [{"weight": 33, "for": "10m"}], promote="automatic")
    await passes(plane, 0)
    plane.start()
    await plane.deployer_tasks.step()
    view = plane.rollouts.view("notes")
    assert view.state is S
    assert view.reason == "promotion refused: notes-7 has not run steps that production asks for: load"

    production = {**release, "id": "notes-r9", "environment": "production", "state": "live"}
    plane.deployer[f"POST {releases}"] = (200, production)
    await plane.rollouts.resume("notes", "notes-r2", "")
    await plane.deployer_tasks.step()
    view = plane.rollouts.view("notes")
    assert (view.state, view.reason) == (RolloutState.PROMOTED, "promoted as notes-r9")
    event = (await plane.events())[-1].model_dump()
    assert (event["type"], event["promote"], event["step"], event["steps"]) == ("rollout.promoted", "automatic", 1, 1)
