"""Decides how a rollout goes through its steps. Pure: `now` is an argument. Each function returns the rollouts that are
reached one after the other, of which the last one stays; each of them is an event.
"""

import json
from datetime import datetime

from services.proxy.routes.rollout import Promotion, Rollout, moved
from shared.proxy_models import RolloutState, RolloutStepEnd, VerdictSummary


def opened(rollout: Rollout, now: datetime) -> list[Rollout]:
    """Returns the new rollout at its first step. A step that has a pause and no time is paused at once."""
    if rollout.has_passed or not rollout.steps or rollout.steps[rollout.step].lasts is not None:
        return [rollout]
    return [rollout, _waiting(rollout, now)]


def step_over(rollout: Rollout, verdict: VerdictSummary, now: datetime) -> list[Rollout]:
    """Returns the progressing rollout after the analysis of its current step has ended with `verdict`: paused if the
    step has a pause, otherwise at the next step.
    """
    rollout = rollout.model_copy(update={"verdict": verdict})
    if rollout.steps[rollout.step].pause:
        return [_waiting(rollout, now)]
    return next_step(rollout, verdict.reason, verdict, now)


def next_step(rollout: Rollout, why: str, verdict: VerdictSummary | None, now: datetime) -> list[Rollout]:
    """Returns the active rollout at the step after its current one, which ends because of `why`. After the last step it
    has passed; if it promotes by itself, its promotion is requested.
    """
    if rollout.state is RolloutState.PAUSED:
        rollout = moved(rollout, RolloutState.PROGRESSING, why, now)
    ended_steps = [*rollout.ended_steps, RolloutStepEnd(at=now, reason=why, verdict=verdict)]
    rollout = rollout.model_copy(update={"ended_steps": ended_steps, "at": now, "halted_s": 0.0, "hold": ""})
    if rollout.has_passed:
        return [passed(rollout, why, now)]
    reason = f"step {_name(rollout)}: {rollout.steps[rollout.step].weight} % of visitors; {why}"
    return opened(rollout.model_copy(update={"reason": reason}), now)


def passed(rollout: Rollout, why: str, now: datetime) -> Rollout:
    """Returns the progressing rollout, whose steps have all ended, with its promotion requested if it promotes by
    itself.
    """
    if rollout.promote == "automatic":
        reason = f"all steps have ended: {why}; it is promoted"
        return rollout.model_copy(update={"reason": reason, "promotion": Promotion(asked_at=now)})
    reason = f"all steps have ended: {why}; {_call(rollout, 'promote')} makes it production"
    return rollout.model_copy(update={"reason": reason})


def resumed(rollout: Rollout, why: str, now: datetime) -> list[Rollout]:
    """Returns the rollout, which a person had to resume, progressing: at the next step if the current one is over, else
    where it was. One whose steps have all ended and that promotes by itself is promoted.
    """
    if rollout.awaits_person:
        has_time = rollout.steps[rollout.step].lasts is not None
        return next_step(rollout, why, rollout.verdict if has_time else None, now)
    rollout = moved(rollout, RolloutState.PROGRESSING, why, now)
    return [passed(rollout, why, now) if rollout.has_passed else rollout]


def held(rollout: Rollout, hold: str, verdict: VerdictSummary) -> Rollout:
    """Returns the rollout with the reason to hold its current step. If nothing has changed but the verdict's time,
    returns the same object.
    """
    known = rollout.verdict
    if known and rollout.hold == hold and known == verdict.model_copy(update={"at": known.at}):
        return rollout
    return rollout.model_copy(update={"hold": hold, "verdict": verdict})


def _waiting(rollout: Rollout, now: datetime) -> Rollout:
    after = rollout.step + 1
    is_last, promotes = after == len(rollout.steps), rollout.promote == "automatic"
    next_one = "promotes it" if promotes else "ends the last step"
    if not is_last:
        next_one = f"begins the next one with {rollout.steps[after].weight} % of visitors"
    reason = f"step {_name(rollout)} waits for a person: {_call(rollout, 'resume')} {next_one}"
    return moved(rollout, RolloutState.PAUSED, reason, now).model_copy(update={"awaits_person": True})


def _name(rollout: Rollout) -> str:
    return f"{rollout.step + 1} of {len(rollout.steps)}"


def _call(rollout: Rollout, action: str) -> str:
    """Returns the call that people send for the action, as text."""
    app = rollout.release.rpartition("-r")[0]
    return f"POST /apps/{app}/rollout/{action} {json.dumps({'release': rollout.release})}"
