"""One running copy of a release: its states, and when one that died is started again."""

from datetime import datetime, timedelta
from typing import Any

from pydantic import BaseModel

from services.deployer.releases.environment import EnvironmentId
from shared.models import Environment, InstanceRecord, InstanceState
from shared.state import Table, transition

S = InstanceState

INSTANCE_TRANSITIONS: Table[InstanceState] = {
    S.STARTING: frozenset({S.READY, S.FAILED, S.STOPPED}),
    S.READY: frozenset({S.DRAINING, S.UNHEALTHY, S.FAILED, S.STOPPED}),
    S.UNHEALTHY: frozenset({S.READY, S.DRAINING, S.FAILED, S.STOPPED}),
    S.DRAINING: frozenset({S.STOPPED}),
    S.STOPPED: frozenset(),
    S.FAILED: frozenset(),
}
RUNNING = frozenset({S.STARTING, S.READY, S.UNHEALTHY})
ENDED = frozenset({S.STOPPED, S.FAILED})

FIRST_DELAY_S = 0.5
LONGEST_DELAY_S = 30.0
WELL_AFTER_S = 60.0


class Instance(BaseModel):
    """`memory`: its limit, bytes, changed last at `memory_at`; `memory_refusal`: why it could not be changed the last
    time. `restarts` and `oom_kills` count over the instances that this one took over from, its own kills once it has
    failed; `crashes` only those in a row. `oom_killed`: it was killed at its limit. `ended_at`: when its process was
    certainly gone. `replaced`: another one was started in its place. `told`: digest of what the platform told it about
    itself; empty: it was started before that was kept.
    """

    id: str
    release: str
    app: str
    environment: Environment
    commit: str
    state: InstanceState
    reason: str
    created_at: datetime
    changed_at: datetime
    ready_at: datetime | None = None
    ended_at: datetime | None = None
    address: str = ""
    memory: int
    memory_at: datetime | None = None
    memory_refusal: str = ""
    configuration: str
    told: str = ""
    restarts: int = 0
    crashes: int = 0
    oom_kills: int = 0
    oom_killed: bool = False
    replaced: bool = False

    @property
    def place(self) -> EnvironmentId:
        return EnvironmentId(self.app, self.environment)


def moved(instance: Instance, state: InstanceState, reason: str, now: datetime) -> Instance:
    """The instance in its new state; raises IllegalTransition."""
    transition(INSTANCE_TRANSITIONS, instance.state, state)
    changes: dict[str, Any] = {"state": state, "reason": reason, "changed_at": now}
    if state is S.READY and instance.ready_at is None:
        changes["ready_at"] = now
    return instance.model_copy(update=changes)


def resized(instance: Instance, memory: int, now: datetime) -> Instance:
    """With another memory limit, bytes."""
    return instance.model_copy(update={"memory": memory, "memory_at": now, "memory_refusal": ""})


def crashes_in_a_row(failed: Instance) -> int:
    """Including this one; an instance that was well for a minute begins a new row."""
    was_well = failed.ready_at is not None and (failed.changed_at - failed.ready_at).total_seconds() >= WELL_AFTER_S
    return 1 if was_well else failed.crashes + 1


def is_helped_by(failed: Instance, memory: int) -> bool:
    """Whether an instance with that much memory has what `failed` lacked."""
    return failed.oom_killed and memory > failed.memory


def may_restart_at(failed: Instance, memory: int) -> datetime:
    """When an instance with that much memory may be started in place of `failed`: 0.5 s after, doubling with each crash
    in a row to 30 s; at once if it has what the failed one lacked.
    """
    if is_helped_by(failed, memory):
        return failed.changed_at
    doublings = min(crashes_in_a_row(failed) - 1, 10)
    return failed.changed_at + timedelta(seconds=min(FIRST_DELAY_S * 2**doublings, LONGEST_DELAY_S))


def registry_record(instance: Instance) -> InstanceRecord:
    """The instance as others see it."""
    return InstanceRecord(
        id=instance.id,
        release=instance.release,
        commit=instance.commit,
        address=instance.address,
        state=instance.state,
        memory_limit=instance.memory,
        updated_at=max(instance.changed_at, instance.memory_at or instance.changed_at),
    )
