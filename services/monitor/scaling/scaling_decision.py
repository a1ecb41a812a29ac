"""Defines a decision about an environment's memory limit: action, cause, inputs and outcome."""

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
    """Names the reasons for which the limit changes (the first five) or stays the same (the others)."""

    FULL = "full"
    """An instance uses at least the policy's `up` of its limit."""
    FULL_SOON = "full_soon"
    """If its use grows on as at present, an instance will reach its limit within the policy's `horizon_s`."""
    PRESSURE = "pressure"
    """Processes of an instance have to wait for memory (PSI), at least as much as the policy's `pressure`."""
    OOM_KILL = "oom_kill"
    IDLE = "idle"
    """The highest use of the last `idle_s` seconds is below the policy's `down`, as a share of the halved limit."""
    WITHIN_BAND = "within_band"
    """Use is neither high enough to double the limit nor low enough to halve it."""
    COOLDOWN = "cooldown"
    """The limit would be doubled, but was changed too recently."""
    SETTLING = "settling"
    """The limit would be halved, but was changed too recently."""
    AT_CAP = "at_cap"
    """The limit would be doubled, but is already the manifest's `max_memory`."""
    DISABLED = "disabled"
    """The limit would be changed, but the policy is not enabled."""
    RELEASE_UNDER_WAY = "release_under_way"
    """A release is starting or being replaced."""
    NO_DATA = "no_data"
    """Samples are missing."""
    USE_TOO_HIGH = "use_too_high"
    """Use is low enough now to halve the limit, but was too high at some time within `idle_s`."""


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
    """Holds the figures of one instance on which a decision is based."""

    id: str
    working_set: int = Field(description="Bytes.")
    limit: int = Field(description="Memory limit, in bytes.")
    share: float = Field(description="Working set as a share of the limit, 0 to 1.")
    growth: float | None = Field(description="Bytes per second; null with too few samples.")
    highest: int = Field(description="Highest working set within the policy's `idle_s`, in bytes.")
    oom_kills: int
    pressure: float | None = Field(description="PSI `some avg10` in percent; null if unknown.")
    samples: int = Field(description="Number of samples within the last 5 min.")


class Decision(View):
    """Describes a decision about an environment's memory limit. Successive decisions that change nothing for the same
    `cause` share one entry, with the latest `inputs`.
    """

    model_config = ConfigDict(extra="ignore", populate_by_name=True, serialize_by_alias=True)

    id: str
    number: int
    app: str
    environment: Environment
    release: str
    action: Action
    cause: Cause
    reason: str = Field(description="A sentence for people.")
    from_: int = Field(alias="from", description="Limit before, in bytes.")
    to: int = Field(description="Limit after, in bytes; equal to `from` where nothing changes.")
    state: DecisionState | None = Field(None, description="Null where nothing changes.")
    outcome: str = Field("", description="Reason for the state.")
    settled_at: datetime | None = Field(None, description="Time at which it was applied or given up.")
    at: datetime = Field(description="Time of the last of `count` decisions.")
    first_at: datetime = Field(description="Time of the first of `count` decisions.")
    count: int = Field(1, description="Number of successive decisions in this entry.")
    inputs: list[Input] = Field(default_factory=list)

    @property
    def is_open(self) -> bool:
        """Returns True while the change has been neither applied nor given up."""
        return self.state is DecisionState.DECIDED


@dataclass(frozen=True)
class ScalingVerdict:
    """Holds the policy's verdict about an environment, before it is numbered and stored as a decision."""

    action: Action
    cause: Cause
    reason: str
    from_: int
    """Limit before, in bytes."""
    to: int
    """Limit after, in bytes."""
    release: str
    inputs: Sequence[Input] = ()


@dataclass(frozen=True)
class Past:
    """Holds the earlier decisions about an environment on which a new one depends."""

    last: Decision | None = None
    """The newest decision; None if there is none."""
    change: Decision | None = None
    """The newest decision that changes the limit; None if there is none."""


def new_decision(key: EnvironmentKey, past: Past, verdict: ScalingVerdict, now: datetime) -> Decision:
    """Returns the verdict as a new decision. The decisions of an environment are numbered from 1 without a gap."""
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
    """Returns `last` with `count` increased, if neither `last` nor the verdict changes the limit and both have the same
    cause and release; else None.
    """
    if last is None or verdict.action is not Action.NONE or last.action is not Action.NONE:
        return None
    if (last.cause, last.release) != (verdict.cause, verdict.release):
        return None
    update = {"reason": verdict.reason, "from_": verdict.from_, "to": verdict.to, "inputs": list(verdict.inputs)}
    return last.model_copy(update={**update, "at": now, "count": last.count + 1})


def settled(decision: Decision, state: DecisionState, outcome: str, now: datetime) -> Decision:
    """Returns the decision with its final state and outcome. Raises IllegalTransition if its state is already final,
    and ValueError if it did not decide on a change.
    """
    if decision.state is None:
        raise ValueError(f"{decision.id} is not a change, so it has no outcome")
    state = transition(DECISION_TABLE, decision.state, state)
    return decision.model_copy(update={"state": state, "outcome": outcome, "settled_at": now})


def scaling_event(decision: Decision) -> Event:
    """Returns the event `scaling.decided` about a decision that changes the limit."""
    same = {"app", "at", "id", "reason", "environment", "release", "action", "cause", "from_", "to", "inputs"}
    return Event.model_validate({"type": "scaling.decided", **decision.model_dump(mode="json", include=same)})
