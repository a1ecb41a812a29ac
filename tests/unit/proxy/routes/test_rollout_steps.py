"""Every way through a rollout's steps: which states are reached, one after the other, and with which reasons."""

from datetime import UTC, datetime, timedelta

import pytest

from services.proxy.routes.rollout import (
    Rollout,
    ended,
    moved,
    paused_by_platform,
    paused_for_person,
    resumed_by_platform,
    rollout_event,
)
from services.proxy.routes.rollout_steps import held, next_step, opened, resumed, step_over
from shared.canary import CanaryStep
from shared.proxy_models import RolloutState, VerdictResult, VerdictSummary

NOW = datetime(2026, 1, 1, tzinfo=UTC)
P, S = RolloutState.PROGRESSING, RolloutState.PAUSED
FIVE, THIRD = CanaryStep(weight=5, lasts=120), CanaryStep(weight=33, lasts=600)
WAITS, LOOKED_AT = CanaryStep(weight=5, pause=True), CanaryStep(weight=5, lasts=120, pause=True)
PASS = VerdictSummary(result=VerdictResult.PASS, score=97, reason="harm is ruled out", at=NOW)
UNSURE = VerdictSummary(result=VerdictResult.INCONCLUSIVE, score=52, reason="too few requests", at=NOW)
RESUME = 'POST /apps/notes/rollout/resume {"release": "notes-r9"}'


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def new(*steps: CanaryStep, promote: str = "by-hand") -> Rollout:
    return Rollout.model_validate(
        {"release": "notes-r9", "reason": "the canary is ready", "at": NOW, "steps": list(steps), "promote": promote}
    )


def states(reached: list[Rollout]) -> list[tuple[RolloutState, int]]:
    return [(rollout.state, rollout.step) for rollout in reached]


def test_a_rollout_opens_at_its_first_step() -> None:
    rollout = opened(new(FIVE, THIRD), NOW)[-1]
    assert (rollout.state, rollout.step, rollout.step_at, rollout.step_ends_at) == (P, 0, NOW, at(120))


def test_a_fixed_share_has_no_step_that_ends() -> None:
    rollout = opened(new(), NOW)[-1]
    assert (rollout.state, rollout.step_ends_at, rollout.has_passed) == (P, None, False)


def test_a_first_step_without_a_time_waits_at_once() -> None:
    reached = opened(new(WAITS, THIRD), NOW)
    assert states(reached) == [(P, 0), (S, 0)]
    assert reached[-1].reason == f"step 1 of 2 waits for a person: {RESUME} begins the next one with 33 % of visitors"
    assert reached[-1].awaits_person and reached[-1].step_ends_at is None


@pytest.mark.parametrize("verdict", [PASS, UNSURE])
def test_a_step_that_is_over_begins_the_next_one(verdict: VerdictSummary) -> None:
    [rollout] = step_over(new(FIVE, THIRD), verdict, at(121))
    assert (rollout.state, rollout.step, rollout.step_at, rollout.step_ends_at) == (P, 1, at(121), at(721))
    assert rollout.reason == f"step 2 of 2: 33 % of visitors; {verdict.reason}"
    assert (rollout.verdict, rollout.ended_steps[0].verdict) == (verdict, verdict)


def test_a_step_with_a_pause_is_analysed_and_then_waits() -> None:
    [paused] = step_over(new(LOOKED_AT, THIRD), PASS, at(121))
    assert (paused.state, paused.step, paused.awaits_person) == (S, 0, True)
    [rollout] = resumed(paused, "resumed by hand", at(500))
    assert (rollout.state, rollout.step, rollout.step_at) == (P, 1, at(500))
    assert (rollout.ended_steps[0].reason, rollout.ended_steps[0].verdict) == ("resumed by hand", PASS)


def test_a_pause_that_nothing_was_analysed_in_has_no_verdict() -> None:
    paused = step_over(new(FIVE, WAITS, THIRD), PASS, at(121))
    assert states(paused) == [(P, 1), (S, 1)]
    [rollout] = resumed(paused[-1], "resumed by hand", at(500))
    assert [step.verdict for step in rollout.ended_steps] == [PASS, None]


def test_a_passed_rollout_waits_for_its_promotion_by_hand() -> None:
    [rollout] = step_over(new(FIVE), PASS, at(121))
    assert (rollout.state, rollout.has_passed, rollout.promotion, rollout.step_ends_at) == (P, True, None, None)
    promote = 'POST /apps/notes/rollout/promote {"release": "notes-r9"}'
    assert rollout.reason == f"all steps have ended: harm is ruled out; {promote} makes it production"


def test_a_passed_rollout_is_promoted_by_itself_if_the_app_says_so() -> None:
    [rollout] = step_over(new(FIVE, promote="automatic"), PASS, at(121))
    assert rollout.promotion is not None and rollout.promotion.asked_at == at(121)
    assert rollout.reason == "all steps have ended: harm is ruled out; it is promoted"


def test_a_last_pause_is_passed_by_the_person_who_resumes() -> None:
    [_, paused] = opened(new(WAITS, promote="automatic"), NOW)
    assert paused.reason == f"step 1 of 1 waits for a person: {RESUME} promotes it"
    [rollout] = resumed(paused, "resumed by hand", at(5))
    assert rollout.has_passed and rollout.promotion is not None


@pytest.mark.parametrize("step", [FIVE, WAITS, LOOKED_AT])
def test_a_skip_ends_a_step_and_its_pause(step: CanaryStep) -> None:
    rollout = opened(new(step, THIRD), NOW)[-1]
    [after] = next_step(rollout, "skipped by hand", None, at(3))
    assert (after.state, after.step, after.awaits_person, after.step_ends_at) == (P, 1, False, at(603))
    assert after.ended_steps[0].model_dump() == {"at": at(3), "reason": "skipped by hand", "verdict": None}


def test_time_that_is_paused_does_not_count() -> None:
    rollout = paused_by_platform(new(FIVE), "silence", at(100))
    assert rollout.step_ends_at is None
    rollout = resumed_by_platform(rollout, "an answer", at(130))
    assert rollout.step_ends_at == at(150)
    rollout = paused_for_person(rollout, "promotion failed: x", at(140))
    rollout = paused_for_person(rollout, "promotion refused: y", at(145))
    [rollout] = resumed(rollout, "resumed by hand", at(150))
    assert (rollout.step, rollout.step_ends_at) == (0, at(160))
    [rollout] = step_over(new(FIVE, THIRD).model_copy(update={"halted_s": 30.0}), PASS, at(200))
    assert rollout.step_ends_at == at(800)


def test_a_clock_that_was_set_back_while_paused_ends_no_step_early() -> None:
    rollout = moved(new(FIVE), S, "promotion failed: x", at(100))
    [rollout] = resumed(rollout, "resumed by hand", at(-500))
    assert rollout.step_ends_at == at(120)


def test_a_promotion_that_fails_at_a_pause_keeps_the_pause() -> None:
    paused = opened(new(WAITS, THIRD), NOW)[-1]
    refused = paused_for_person(paused, "promotion refused: gates", at(9))
    assert (refused.state, refused.reason, refused.awaits_person) == (S, "promotion refused: gates", True)
    assert states(resumed(refused, "resumed by hand", at(10))) == [(P, 1)]


def test_a_promotion_that_fails_within_a_step_goes_on_with_the_step() -> None:
    paused = paused_for_person(new(FIVE, THIRD), "promotion refused: gates", at(9))
    [rollout] = resumed(paused, "resumed by hand", at(10))
    assert (rollout.state, rollout.step, rollout.promotion, rollout.reason) == (P, 0, None, "resumed by hand")


def test_an_automatic_promotion_that_was_refused_is_asked_for_again_by_resume() -> None:
    [passed] = step_over(new(FIVE, promote="automatic"), PASS, at(121))
    paused = paused_for_person(passed, "promotion refused: gates", at(125))
    assert paused.promotion is None
    [rollout] = resumed(paused, "resumed by hand", at(300))
    assert rollout.promotion is not None and rollout.promotion.asked_at == at(300)


def test_a_hold_is_stored_once_and_ends_with_the_step_or_a_pause() -> None:
    rollout = held(new(FIVE, THIRD), "60 more requests are needed", UNSURE)
    later = UNSURE.model_copy(update={"at": at(10)})
    assert held(rollout, "60 more requests are needed", later) is rollout
    assert held(rollout, "50 more requests are needed", later).hold == "50 more requests are needed"
    assert step_over(rollout, PASS, at(200))[-1].hold == ""
    assert paused_by_platform(rollout, "silence", at(130)).hold == ""


def test_an_ended_rollout_forgets_the_key_and_remembers_the_steps() -> None:
    [rollout] = step_over(new(FIVE, THIRD), PASS, at(121))
    aborted = ended(rollout.model_copy(update={"override_key": "k" * 20}), RolloutState.ABORTED, "errors", {}, at(130))
    assert (aborted.override_key, aborted.step, len(aborted.steps)) == ("", 1, 2)


def test_the_key_is_not_shown() -> None:
    assert "s3cret" not in repr(new(FIVE).model_copy(update={"override_key": "s3cret"}))


def test_events_say_the_step_and_once_that_it_has_passed() -> None:
    def details(rollout: Rollout) -> dict[str, object]:
        extra = rollout_event("notes", rollout, 5).model_extra or {}
        return {key: extra[key] for key in ("step", "steps", "promote", "passed") if key in extra}

    assert details(new()) == {}
    assert details(new(FIVE)) == {"step": 0, "steps": 1, "promote": "by-hand", "passed": False}
    [passed] = step_over(new(FIVE), PASS, at(121))
    assert details(passed) == {"step": 1, "steps": 1, "promote": "by-hand", "passed": True}
    again = resumed_by_platform(paused_by_platform(passed, "silence", at(130)), "an answer", at(140))
    assert details(again)["passed"] is False
    assert (rollout_event("notes", paused_by_platform(passed, "silence", at(130)), 5).model_extra or {})[
        "resumes_by_itself"
    ] is True


def test_a_rollout_of_an_older_version_keeps_its_share_for_ever() -> None:
    stored = '{"release": "notes-r9", "state": "progressing", "reason": "why", "at": "2026-01-01T00:00:00Z"}'
    rollout = Rollout.model_validate_json(stored)
    assert (rollout.steps, rollout.step, rollout.step_at, rollout.step_ends_at) == ([], 0, NOW, None)
