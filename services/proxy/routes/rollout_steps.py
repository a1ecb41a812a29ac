"""Decides how a rollout goes through its steps, each of which gives the canary a share of visitors for a time or until
a person goes on. Pure: `now` is an argument. A function that returns a list returns the states that the rollout passes
through one after the other: each is published as an event, and the last one stays.
"""

import json
from datetime import datetime

from services.proxy.routes.rollout import Promotion, Rollout, moved
from shared.proxy_models import RolloutState, RolloutStepEnd, VerdictSummary


def opened(rollout: Rollout, now: datetime) -> list[Rollout]:
    """Returns the states of a rollout whose current step begins now: the given one and, if the step has a pause but no
    time, then the rollout paused until a person resumes it.
    """
    if rollout.has_passed or not rollout.steps or rollout.steps[rollout.step].lasts is not None:
        return [rollout]
    return [rollout, _waiting(rollout, now)]


def step_over(rollout: Rollout, verdict: VerdictSummary, now: datetime) -> list[Rollout]:
    """Returns the states of the progressing rollout when the time of its current step is over and the canary analysis
    says `verdict`: paused until a person resumes it if the step has a pause, otherwise at the next step.
    """
    rollout = rollout.model_copy(update={"verdict": verdict})
    if rollout.steps[rollout.step].pause:
        return [_waiting(rollout, now)]
    return next_step(rollout, verdict.reason, verdict, now)


def next_step(rollout: Rollout, why: str, verdict: VerdictSummary | None, now: datetime) -> list[Rollout]:
    """Ends the active rollout's current step with the reason `why` and the verdict of its analysis (None: there was
    none), and returns the rollout's states from then on: at the next step or, after the last one, waiting for a person
    to promote it or, with `promote: automatic`, with its promotion requested.
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
    """Returns the progressing rollout, whose steps have all ended because of `why`: with its promotion requested if the
    manifest says `promote: automatic`, otherwise with a reason that says how a person promotes it.
    """
    if rollout.promote == "automatic":
        reason = f"all steps have ended: {why}; it is promoted"
        return rollout.model_copy(update={"reason": reason, "promotion": Promotion(asked_at=now)})
    reason = f"all steps have ended: {why}; {_call(rollout, 'promote')} makes it production"
    return rollout.model_copy(update={"reason": reason})


def resumed(rollout: Rollout, why: str, now: datetime) -> list[Rollout]:
    """Returns the states of a paused rollout when a person resumes it with the reason `why`: at the next step if the
    current one is over, else progressing where it was. If all steps have ended and the manifest says `promote:
    automatic`, its promotion is requested.
    """
    if rollout.awaits_person:
        has_time = rollout.steps[rollout.step].lasts is not None
        return next_step(rollout, why, rollout.verdict if has_time else None, now)
    rollout = moved(rollout, RolloutState.PROGRESSING, why, now)
    return [passed(rollout, why, now) if rollout.has_passed else rollout]


def held(rollout: Rollout, hold: str, verdict: VerdictSummary) -> Rollout:
    """Returns the rollout with `hold`, the reason why its current step is extended beyond its time, and with `verdict`,
    the summary of the judge's verdict on the canary. If nothing but the verdict's time has changed, returns the same
    object.
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
    """Returns, as text for people, the request by which they do the action."""
    app = rollout.release.rpartition("-r")[0]
    return f"POST /apps/{app}/rollout/{action} {json.dumps({'release': rollout.release})}"
