"""A rollout of a canary release: progressing ⇄ paused → promoted | aborted. Pure: `now` is an argument."""

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
    """The intent to make the canary's build production, and its progress. Stored before each step."""

    asked_at: datetime
    release: str | None = None


def _at(fields: dict[str, Any]) -> Any:
    return fields["at"]


class Rollout(View):
    """A canary release on its way; it has the id of its release. `at`: when it entered its state; `notify`: the
    manifest's addresses; `evidence`: the measurements at its end. `resumes_by_itself`: the platform paused it, and
    resumes it.
    """

    release: str
    commit: str | None = None
    state: RolloutState = RolloutState.PROGRESSING
    reason: str = ""
    at: datetime
    opened_at: datetime = Field(default_factory=_at)
    notify: list[str] = Field([])
    promotion: Promotion | None = None
    resumes_by_itself: bool = False
    evidence: dict[str, JsonValue] = Field({})

    @property
    def active(self) -> bool:
        return self.state in ACTIVE


def moved(rollout: Rollout, state: RolloutState, reason: str, now: datetime) -> Rollout:
    """Returns the rollout in its new state, without a promotion under way. Raises IllegalTransition."""
    new = transition(TRANSITIONS, rollout.state, state)
    update = {"state": new, "reason": reason, "at": now, "promotion": None, "resumes_by_itself": False}
    return rollout.model_copy(update=update)


def paused_by_platform(rollout: Rollout, reason: str, now: datetime) -> Rollout:
    """Pauses the rollout until the platform resumes it; a promotion under way waits."""
    update = {"promotion": rollout.promotion, "resumes_by_itself": True}
    return moved(rollout, RolloutState.PAUSED, reason, now).model_copy(update=update)


def resumed_by_platform(rollout: Rollout, reason: str, now: datetime) -> Rollout:
    """Resumes the rollout that `paused_by_platform` paused, with its promotion."""
    resumed = moved(rollout, RolloutState.PROGRESSING, reason, now)
    return resumed.model_copy(update={"promotion": rollout.promotion})


def ended(rollout: Rollout, state: RolloutState, reason: str, evidence: dict[str, JsonValue], now: datetime) -> Rollout:
    """Returns the rollout as promoted or aborted, with its evidence."""
    return moved(rollout, state, reason, now).model_copy(update={"evidence": evidence})


def with_earlier(ended_one: Rollout | None, earlier: list[Rollout]) -> list[Rollout]:
    """Returns the app's ended rollouts, newest first, at most 20; `ended_one` joins them before the next one begins."""
    return ([ended_one] if ended_one else []) + earlier[: KEPT - bool(ended_one)]


def rollout_event(app: str, rollout: Rollout, weight: int) -> Event:
    """Returns the event `rollout.<state>`; `weight` in percent; with `evidence` if the rollout has ended."""
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
    """Returns the request to retire the release of a rollout that was aborted for `reason`."""
    return RetireRequest(state="retired" if reason == SUPERSEDED else "rolled_back", reason=reason)
