"""A canary release on its way: progressing ⇄ paused → promoted | aborted. Pure: `now` is an argument."""

from datetime import datetime

from shared.models import Event, RetireRequest, RolloutState, View
from shared.state import Table, transition

TRANSITIONS: Table[RolloutState] = {
    RolloutState.PROGRESSING: frozenset({RolloutState.PAUSED, RolloutState.PROMOTED, RolloutState.ABORTED}),
    RolloutState.PAUSED: frozenset({RolloutState.PROGRESSING, RolloutState.PROMOTED, RolloutState.ABORTED}),
    RolloutState.PROMOTED: frozenset(),
    RolloutState.ABORTED: frozenset(),
}
SUPERSEDED = "superseded"
ACTIVE = frozenset({RolloutState.PROGRESSING, RolloutState.PAUSED})


class Promotion(View):
    """The intent to make the canary's build production, and how far it has come. Stored before each step."""

    asked_at: datetime
    build: str | None = None
    release: str | None = None


class Rollout(View):
    """The rollout has the id of its release. `at`: when it came into its state."""

    release: str
    state: RolloutState = RolloutState.PROGRESSING
    reason: str = ""
    at: datetime
    promotion: Promotion | None = None

    @property
    def active(self) -> bool:
        return self.state in ACTIVE


def moved(rollout: Rollout, state: RolloutState, reason: str, now: datetime) -> Rollout:
    """The rollout in its new state; a promotion under way ends with it. Raises IllegalTransition."""
    new = transition(TRANSITIONS, rollout.state, state)
    return rollout.model_copy(update={"state": new, "reason": reason, "at": now, "promotion": None})


def release_number(release: str) -> int:
    """`notes-r9` → 9: ids count up per app. 0 for what is not a release's id."""
    number = release.rpartition("-r")[2]
    return int(number) if number.isdecimal() else 0


def rollout_event(app: str, rollout: Rollout, now: datetime) -> Event:
    """`rollout.<state>`."""
    return Event(type=f"rollout.{rollout.state}", app=app, at=now, id=rollout.release, reason=rollout.reason)


def retire_request(reason: str) -> RetireRequest:
    """What the deployer does with the release of a rollout that was aborted for `reason`."""
    return RetireRequest(state="retired" if reason == SUPERSEDED else "rolled_back", reason=reason)
