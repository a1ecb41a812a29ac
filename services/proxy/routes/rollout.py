"""Defines a canary rollout and its states: progressing ⇄ paused → promoted | aborted. Pure: `now` is an argument."""

from datetime import datetime
from typing import Any

from pydantic import Field, JsonValue

from shared.models import Environment, Event, RetireRequest, View
from shared.proxy_models import RolloutState
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
    """Records a promotion that was requested at `asked_at`. `release` is the id of the production release, null until
    the deployer has made it.
    """

    asked_at: datetime
    release: str | None = None


def _at(fields: dict[str, Any]) -> Any:
    return fields["at"]


class Rollout(View):
    """Describes the rollout of a canary release, whose id identifies it. `promotion` is null unless a promotion was
    requested and is not finished.
    """

    release: str
    commit: str | None = None
    state: RolloutState = RolloutState.PROGRESSING
    reason: str = ""
    at: datetime = Field(description="Time of the last change of state.")
    opened_at: datetime = Field(default_factory=_at)
    notify: list[str] = Field([], description="The manifest's addresses for messages.")
    promotion: Promotion | None = None
    resumes_by_itself: bool = Field(False, description="The platform paused the rollout, and will resume it.")
    evidence: dict[str, JsonValue] = Field({}, description="Measurements at the end of the rollout.")
    override_key: str = Field(
        "",
        repr=False,
        description="Secret value of the header `x-canary` that gets the canary; empty: `always` does. Empty once the "
        "rollout has ended.",
    )
    mirror: int = Field(0, description="Percent of production's GET and HEAD requests that are copied to the canary.")

    @property
    def active(self) -> bool:
        return self.state in ACTIVE


def moved(rollout: Rollout, state: RolloutState, reason: str, now: datetime) -> Rollout:
    """Returns the rollout in the new state, without its unfinished promotion. Raises IllegalTransition if that
    transition is not allowed.
    """
    new = transition(TRANSITIONS, rollout.state, state)
    update = {"state": new, "reason": reason, "at": now, "promotion": None, "resumes_by_itself": False}
    return rollout.model_copy(update=update)


def paused_by_platform(rollout: Rollout, reason: str, now: datetime) -> Rollout:
    """Returns the progressing rollout as paused by the platform, which will resume it; keeps its unfinished
    promotion.
    """
    update = {"promotion": rollout.promotion, "resumes_by_itself": True}
    return moved(rollout, RolloutState.PAUSED, reason, now).model_copy(update=update)


def resumed_by_platform(rollout: Rollout, reason: str, now: datetime) -> Rollout:
    """Returns the rollout that `paused_by_platform` has paused as progressing again; keeps its unfinished promotion."""
    resumed = moved(rollout, RolloutState.PROGRESSING, reason, now)
    return resumed.model_copy(update={"promotion": rollout.promotion})


def ended(rollout: Rollout, state: RolloutState, reason: str, evidence: dict[str, JsonValue], now: datetime) -> Rollout:
    """Returns the rollout in its final `state`, promoted or aborted, with its evidence and without its secret."""
    return moved(rollout, state, reason, now).model_copy(update={"evidence": evidence, "override_key": ""})


def with_earlier(ended_one: Rollout | None, earlier: list[Rollout]) -> list[Rollout]:
    """Returns the app's earlier rollouts, newest first, at most 20: `ended_one`, which a new rollout replaces (None if
    there is none), and then `earlier`.
    """
    return ([ended_one] if ended_one else []) + earlier[: KEPT - bool(ended_one)]


def rollout_event(app: str, rollout: Rollout, weight: int) -> Event:
    """Returns the event `rollout.<state>`. `weight` is in percent. The event of an ended rollout contains its
    evidence.
    """
    details: dict[str, Any] = {"release": rollout.release, "environment": Environment.CANARY, "weight": weight}
    if rollout.commit:
        details["commit"] = rollout.commit
    if not rollout.active:
        details["evidence"] = rollout.evidence
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
    """Returns the body of the request that makes the deployer retire an aborted release. Its state is `retired` if a
    newer canary superseded the release, else `rolled_back`.
    """
    return RetireRequest(state="retired" if reason == SUPERSEDED else "rolled_back", reason=reason)
