"""Defines a canary rollout and its states: progressing ⇄ paused → promoted | aborted. Pure: `now` is an argument."""

from datetime import datetime, timedelta
from typing import Any, Literal

from pydantic import Field, JsonValue

from shared.canary import CanaryStep
from shared.models import Environment, Event, RetireRequest, View
from shared.proxy_models import RolloutState, RolloutStepEnd, VerdictSummary
from shared.state import Table, transition

TRANSITIONS: Table[RolloutState] = {
    RolloutState.PROGRESSING: frozenset({RolloutState.PAUSED, RolloutState.PROMOTED, RolloutState.ABORTED}),
    RolloutState.PAUSED: frozenset({RolloutState.PROGRESSING, RolloutState.PROMOTED, RolloutState.ABORTED}),
    RolloutState.PROMOTED: frozenset(),
    RolloutState.ABORTED: frozenset(),
}
SUPERSEDED = "superseded"
ACTIVE = frozenset({RolloutState.PROGRESSING, RolloutState.PAUSED})
KEPT = 20


class Promotion(View):
    """Records that promotion of a canary to production was requested at `asked_at`. `release` is the id of the
    production release, null until the deployer has made it.
    """

    asked_at: datetime
    release: str | None = None


def _at(fields: dict[str, Any]) -> Any:
    return fields["at"]


class Rollout(View):
    """Describes the rollout of a canary release, whose id identifies it. `promotion` is null unless a
    requested promotion is still under way.
    """

    release: str
    commit: str | None = None
    state: RolloutState = RolloutState.PROGRESSING
    reason: str = ""
    at: datetime = Field(description="Time of the last change of state or step.")
    opened_at: datetime = Field(default_factory=_at)
    notify: list[str] = Field([], description="The manifest's addresses for messages.")
    promotion: Promotion | None = None
    resumes_by_itself: bool = Field(False, description="The platform paused the rollout, and will resume it.")
    evidence: dict[str, JsonValue] = Field({}, description="Measurements at the end of the rollout.")
    steps: list[CanaryStep] = Field([], description="Empty: a fixed share, until people end the rollout.")
    ended_steps: list[RolloutStepEnd] = Field([], description="How the steps that are over ended, in order.")
    awaits_person: bool = Field(False, description="The current step is over; `resume` begins the next one.")
    halted_s: float = Field(0, description="Seconds of the current step in which the rollout was paused.")
    hold: str = Field("", description="The monitor's reason to hold the current step, whose time is over.")
    verdict: VerdictSummary | None = Field(None, description="The verdict that came with the last step's end or hold.")
    promote: Literal["by-hand", "automatic"] = "by-hand"
    mirror: int = Field(0, description="Percent of production's GET and HEAD requests that the canary gets, too.")
    override_key: str = Field("", repr=False, description="Value of `x-canary` that forces the canary.")

    @property
    def active(self) -> bool:
        return self.state in ACTIVE

    @property
    def step(self) -> int:
        """Returns the number of the current step, 0 for the first; the number of steps if all have ended."""
        return len(self.ended_steps)

    @property
    def step_at(self) -> datetime:
        """Returns the time at which the current step began."""
        return self.ended_steps[-1].at if self.ended_steps else self.opened_at

    @property
    def has_passed(self) -> bool:
        """Returns True if the rollout has steps and all have ended."""
        return bool(self.steps) and self.step == len(self.steps)

    @property
    def step_ends_at(self) -> datetime | None:
        """Returns the time from which the current step may end; time in which the rollout was paused does not count for
        the step. None if the rollout is not progressing, is being promoted, or has no step that ends by time.
        """
        if self.state is not RolloutState.PROGRESSING or self.promotion or self.step >= len(self.steps):
            return None
        lasts_s = self.steps[self.step].lasts
        return None if lasts_s is None else self.step_at + timedelta(seconds=lasts_s + self.halted_s)


def moved(rollout: Rollout, state: RolloutState, reason: str, now: datetime) -> Rollout:
    """Returns the rollout moved to `state` at `now`, without an unfinished promotion. Raises IllegalTransition if the
    table of transitions does not allow that.
    """
    new = transition(TRANSITIONS, rollout.state, state)
    update = {"promotion": None, "resumes_by_itself": False, "awaits_person": False, "hold": ""}
    since = {"state": new, "reason": reason, "at": now, "halted_s": _halted_s(rollout, now)}
    return rollout.model_copy(update=update | since)


def paused_for_person(rollout: Rollout, reason: str, now: datetime) -> Rollout:
    """Returns the active rollout as paused until a person resumes it, without an unfinished promotion. If the rollout
    was already waiting for a person at the end of a step, resuming it still ends that step.
    """
    if rollout.state is not RolloutState.PAUSED:
        return moved(rollout, RolloutState.PAUSED, reason, now)
    since = {"reason": reason, "at": now, "halted_s": _halted_s(rollout, now)}
    return rollout.model_copy(update={"promotion": None, "resumes_by_itself": False} | since)


def _halted_s(rollout: Rollout, now: datetime) -> float:
    if rollout.state is not RolloutState.PAUSED:
        return rollout.halted_s
    return rollout.halted_s + max(0.0, (now - rollout.at).total_seconds())


def paused_by_platform(rollout: Rollout, reason: str, now: datetime) -> Rollout:
    """Returns the progressing rollout as paused by Slipway itself, which will also resume it. Keeps an unfinished
    promotion.
    """
    update = {"promotion": rollout.promotion, "resumes_by_itself": True}
    return moved(rollout, RolloutState.PAUSED, reason, now).model_copy(update=update)


def resumed_by_platform(rollout: Rollout, reason: str, now: datetime) -> Rollout:
    """Returns the rollout, which Slipway itself had paused, as progressing again. Keeps an unfinished promotion."""
    resumed = moved(rollout, RolloutState.PROGRESSING, reason, now)
    return resumed.model_copy(update={"promotion": rollout.promotion})


def ended(rollout: Rollout, state: RolloutState, reason: str, evidence: dict[str, JsonValue], now: datetime) -> Rollout:
    """Returns the rollout in its final `state`, promoted or aborted, with `evidence` (the measurements at its end) and
    without the secret header value that forces the canary.
    """
    return moved(rollout, state, reason, now).model_copy(update={"evidence": evidence, "override_key": ""})


def with_earlier(ended_one: Rollout | None, earlier: list[Rollout]) -> list[Rollout]:
    """Returns the app's earlier rollouts, newest first, at most 20: `ended_one`, which a new rollout replaces (None if
    there is none), and then `earlier`.
    """
    return ([ended_one] if ended_one else []) + earlier[: KEPT - bool(ended_one)]


def rollout_event(app: str, rollout: Rollout, weight: int) -> Event:
    """Returns the event `rollout.<state>`. `weight` is in percent. The event of an ended rollout contains its evidence;
    that of a rollout with steps contains their number, `steps`, and the current one's number, `step`. Its `passed` is
    true only in the event of the end of the last step.
    """
    details: dict[str, Any] = {"release": rollout.release, "environment": Environment.CANARY, "weight": weight}
    if rollout.commit:
        details["commit"] = rollout.commit
    if not rollout.active:
        details["evidence"] = rollout.evidence
    if rollout.state is RolloutState.PAUSED:
        details["resumes_by_itself"] = rollout.resumes_by_itself
    if rollout.steps:
        details |= {"step": rollout.step, "steps": len(rollout.steps), "promote": rollout.promote}
        details["passed"] = rollout.has_passed and rollout.active and rollout.at == rollout.step_at
    return Event(
        type=f"rollout.{rollout.state}",
        app=app,
        at=rollout.at,
        id=rollout.release,
        reason=rollout.reason,
        notify=rollout.notify,
        **details,
    )


def retire_request(reason: str) -> RetireRequest:
    """Returns the body of the request that makes the deployer retire an aborted release. The body's `state` is
    `retired` if a newer canary superseded the release, else `rolled_back`.
    """
    return RetireRequest(state="retired" if reason == SUPERSEDED else "rolled_back", reason=reason)
