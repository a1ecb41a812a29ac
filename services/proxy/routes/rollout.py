"""A canary release on its way: progressing ⇄ paused → promoted | aborted. Pure: `now` is an argument."""

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
    """The intent to make the canary's build production, and how far it has come. Stored before each step."""

    asked_at: datetime
    build: str | None = None
    release: str | None = None


def _at(fields: dict[str, Any]) -> Any:
    return fields["at"]


class Rollout(View):
    """The rollout has the id of its release. `at`: when it came into its state; `notify`: the manifest's addresses;
    `evidence`: what was measured, of one that has ended. `resumes_by_itself`: the platform's own pause, which it ends.
    """

    release: str
    commit: str | None = None
    state: RolloutState = RolloutState.PROGRESSING
    reason: str = ""
    at: datetime
    opened_at: datetime = Field(default_factory=_at)
    notify: list[str] = Field(default_factory=list)
    promotion: Promotion | None = None
    resumes_by_itself: bool = False
    evidence: dict[str, JsonValue] = Field(default_factory=dict)

    @property
    def active(self) -> bool:
        return self.state in ACTIVE


def moved(rollout: Rollout, state: RolloutState, reason: str, now: datetime) -> Rollout:
    """The rollout in its new state; a promotion under way ends with it. Raises IllegalTransition."""
    new = transition(TRANSITIONS, rollout.state, state)
    update = {"state": new, "reason": reason, "at": now, "promotion": None, "resumes_by_itself": False}
    return rollout.model_copy(update=update)


def paused_by_platform(rollout: Rollout, reason: str, now: datetime) -> Rollout:
    """Paused until the platform lets it go on; a promotion under way waits."""
    update = {"promotion": rollout.promotion, "resumes_by_itself": True}
    return moved(rollout, RolloutState.PAUSED, reason, now).model_copy(update=update)


def resumed_by_platform(rollout: Rollout, reason: str, now: datetime) -> Rollout:
    """Goes on where `paused_by_platform` found it."""
    resumed = moved(rollout, RolloutState.PROGRESSING, reason, now)
    return resumed.model_copy(update={"promotion": rollout.promotion})


def ended(rollout: Rollout, state: RolloutState, reason: str, evidence: dict[str, JsonValue], now: datetime) -> Rollout:
    """Promoted or aborted, with what was measured."""
    return moved(rollout, state, reason, now).model_copy(update={"evidence": evidence})


def with_earlier(ended_one: Rollout | None, earlier: list[Rollout]) -> list[Rollout]:
    """The ended rollouts of an app, newest first, at most 20: `ended_one` is about to make room for the next."""
    return ([ended_one] if ended_one else []) + earlier[: KEPT - bool(ended_one)]


def release_number(release: str) -> int:
    """`notes-r9` → 9: ids count up per app. 0 for what is not a release's id."""
    number = release.rpartition("-r")[2]
    return int(number) if number.isdecimal() else 0


def rollout_event(app: str, rollout: Rollout, weight: int) -> Event:
    """`rollout.<state>`; `weight` in percent; of a rollout that has ended with its `evidence`."""
    told: dict[str, Any] = {"release": rollout.release, "environment": Environment.CANARY, "weight": weight}
    if rollout.commit:
        told["commit"] = rollout.commit
    if not rollout.active:
        told["evidence"] = rollout.evidence
    return Event(
        type=f"rollout.{rollout.state}",
        app=app,
        at=rollout.at,
        id=rollout.release,
        reason=rollout.reason,
        notify=rollout.notify,
        **told,
    )


def retire_request(reason: str) -> RetireRequest:
    """What the deployer does with the release of a rollout that was aborted for `reason`."""
    return RetireRequest(state="retired" if reason == SUPERSEDED else "rolled_back", reason=reason)
