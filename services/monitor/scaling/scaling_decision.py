"""A decision about an environment's memory limit: action, cause, inputs and outcome."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from pydantic import ConfigDict, Field

from services.monitor.scaling.scaling_input import EnvironmentKey
from shared.models import Environment, Event, View
from shared.state import Table, transition


class Action(StrEnum):
    UP = "up"
    DOWN = "down"
    NONE = "none"


class Cause(StrEnum):
    """Names why the limit changes (the first five) or stays (the others)."""

    FULL = "full"
    FULL_SOON = "full_soon"
    PRESSURE = "pressure"
    OOM_KILL = "oom_kill"
    IDLE = "idle"
    WITHIN_BAND = "within_band"
    COOLDOWN = "cooldown"  # it would go up, too soon after the last change
    SETTLING = "settling"  # it would go down, too soon after the last change
    AT_CAP = "at_cap"
    DISABLED = "disabled"
    RELEASE_UNDER_WAY = "release_under_way"
    NO_DATA = "no_data"
    USE_TOO_HIGH = "use_too_high"  # idle now, but not for long enough


class DecisionState(StrEnum):
    DECIDED = "decided"
    APPLIED = "applied"
    REFUSED = "refused"
    SUPERSEDED = "superseded"


DECISION_TABLE: Table[DecisionState] = {
    DecisionState.DECIDED: frozenset({DecisionState.APPLIED, DecisionState.REFUSED, DecisionState.SUPERSEDED}),
    DecisionState.APPLIED: frozenset(),
    DecisionState.REFUSED: frozenset(),
    DecisionState.SUPERSEDED: frozenset(),
}


class Input(View):
    """The figures of one instance: sizes in bytes, `growth` in bytes per second (null: fewer than three samples),
    `highest` its highest use within the policy's `idle_s`, `pressure` PSI's some avg10 in percent.
    """

    id: str
    working_set: int
    limit: int
    share: float
    growth: float | None
    highest: int
    oom_kills: int
    pressure: float | None
    samples: int = Field(description="Number of samples within the last 5 min.")


class Decision(View):
    """One entry of an environment's decisions. `reason` is a sentence for people; `from` and `to` are bytes, equal
    where nothing changes. Only changes have `state`, `outcome` (why it is in that state) and `settled_at` (since when).
    Verdicts with the same `cause` and no change share one entry: `count` of them from `first_at` to `at`, with the
    latest `inputs`.
    """

    model_config = ConfigDict(extra="ignore", populate_by_name=True, serialize_by_alias=True)

    id: str
    number: int
    app: str
    environment: Environment
    release: str
    action: Action
    cause: Cause
    reason: str
    from_: int = Field(alias="from")
    to: int
    state: DecisionState | None = None
    outcome: str = ""
    settled_at: datetime | None = None
    at: datetime
    first_at: datetime
    count: int = 1
    inputs: list[Input] = Field(default_factory=list)

    @property
    def is_open(self) -> bool:
        """True while the decision waits to be carried out."""
        return self.state is DecisionState.DECIDED


@dataclass(frozen=True)
class ScalingVerdict:
    """The result of one step of the scaling loop."""

    action: Action
    cause: Cause
    reason: str
    from_: int
    """Limit before, bytes."""
    to: int
    """Limit after, bytes."""
    release: str
    inputs: Sequence[Input] = ()


@dataclass(frozen=True)
class Past:
    """The earlier decisions about an environment that a new one depends on."""

    last: Decision | None = None
    """The newest entry."""
    change: Decision | None = None
    """The newest entry with a change."""


def new_decision(key: EnvironmentKey, past: Past, verdict: ScalingVerdict, now: datetime) -> Decision:
    """Returns the next entry. The entries of an environment count up from 1."""
    number = past.last.number + 1 if past.last else 1
    return Decision(
        id=f"{key.app}-{key.environment}-{number}",
        number=number,
        app=key.app,
        environment=key.environment,
        **vars(verdict),
        state=None if verdict.action is Action.NONE else DecisionState.DECIDED,
        at=now,
        first_at=now,
    )


def repeated(last: Decision | None, verdict: ScalingVerdict, now: datetime) -> Decision | None:
    """Returns the last entry counted once more, if this verdict has the same result without a change; else None."""
    if last is None or verdict.action is not Action.NONE or last.action is not Action.NONE:
        return None
    if (last.cause, last.release) != (verdict.cause, verdict.release):
        return None
    update = {"reason": verdict.reason, "from_": verdict.from_, "to": verdict.to, "inputs": list(verdict.inputs)}
    return last.model_copy(update={**update, "at": now, "count": last.count + 1})


def settled(decision: Decision, state: DecisionState, outcome: str, now: datetime) -> Decision:
    """Closes an open decision: it was carried out, or will not be.

    Raises IllegalTransition if it is closed already, ValueError if it changes nothing.
    """
    if decision.state is None:
        raise ValueError(f"{decision.id} is not a change, so it has no outcome")
    state = transition(DECISION_TABLE, decision.state, state)
    return decision.model_copy(update={"state": state, "outcome": outcome, "settled_at": now})


def scaling_event(decision: Decision) -> Event:
    """Returns the event `scaling.decided`, published once for each change."""
    same = {"app", "at", "id", "reason", "environment", "release", "action", "cause", "from_", "to", "inputs"}
    return Event.model_validate({"type": "scaling.decided", **decision.model_dump(mode="json", include=same)})
