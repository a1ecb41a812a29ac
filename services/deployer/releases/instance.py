"""Defines an instance, one running copy of a release: its states, and the back-off before a crashed one is replaced."""

from datetime import datetime, timedelta
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from services.deployer.releases.environment import EnvironmentId
from shared.models import Environment, InstanceRecord, InstanceState
from shared.runtime.backoff import backoff_s
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
    """Holds the stored record of an instance, one running copy of a release."""

    model_config = ConfigDict(validate_by_name=True, serialize_by_alias=True)

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
    """Time at which all its processes had ended for certain."""
    address: str = ""
    memory: int
    """Memory limit in bytes; `memory_at` is the time of its last change."""
    memory_at: datetime | None = None
    memory_refusal: str = ""
    """Reason why the driver refused the last change of the memory limit; else empty."""
    configuration: str
    facts_digest: str = Field("", alias="told")
    """Digest of the platform's addresses and secrets that the instance received (`AppFacts.digest`); empty in old
    records.
    """
    restarts: int = 0
    """Number of failed instances before this one, each of which was replaced by the next."""
    crashes: int = 0
    """Number of instances before this one that crashed one after the other, each as the replacement of the one before;
    the back-off follows from it.
    """
    oom_kills: int = 0
    """Number of kills at the memory limit: of the instances before this one and, once it has failed, of itself."""
    oom_killed: bool = False
    """True if a kill at its memory limit ended the instance."""
    replaced: bool = False
    """True if another instance was started to replace it."""

    @property
    def environment_id(self) -> EnvironmentId:
        return EnvironmentId(self.app, self.environment)


def moved(instance: Instance, state: InstanceState, reason: str, now: datetime) -> Instance:
    """Returns the instance in its new state. Raises IllegalTransition if that transition is not allowed."""
    transition(INSTANCE_TRANSITIONS, instance.state, state)
    changes: dict[str, Any] = {"state": state, "reason": reason, "changed_at": now}
    if state is S.READY and instance.ready_at is None:
        changes["ready_at"] = now
    return instance.model_copy(update=changes)


def resized(instance: Instance, memory: int, now: datetime) -> Instance:
    """Returns the instance with another memory limit, in bytes."""
    return instance.model_copy(update={"memory": memory, "memory_at": now, "memory_refusal": ""})


def crashes_in_a_row(failed: Instance) -> int:
    """Returns how many instances have crashed one after the other, each as the replacement of the one before, up to and
    including `failed`. If `failed` ended a minute or more after it had become ready, counting begins again, at 1.
    """
    was_well = failed.ready_at is not None and (failed.changed_at - failed.ready_at).total_seconds() >= WELL_AFTER_S
    return 1 if was_well else failed.crashes + 1


def is_helped_by(failed: Instance, memory: int) -> bool:
    """Returns True if more memory may help: `failed` was killed at its memory limit, and `memory` (bytes) is above that
    limit.
    """
    return failed.oom_killed and memory > failed.memory


def may_restart_at(failed: Instance, memory: int) -> datetime:
    """Returns the time from which an instance with `memory` bytes may replace `failed`. The back-off begins at 0.5 s
    and doubles with each further crash in a row, up to 30 s. There is none if `failed` was killed at its memory limit
    and the new instance may use more.
    """
    if is_helped_by(failed, memory):
        return failed.changed_at
    delay_s = backoff_s(crashes_in_a_row(failed), first_s=FIRST_DELAY_S, longest_s=LONGEST_DELAY_S)
    return failed.changed_at + timedelta(seconds=delay_s)


def registry_record(instance: Instance) -> InstanceRecord:
    """Returns the entry of the instance for the registry."""
    return InstanceRecord(
        id=instance.id,
        release=instance.release,
        commit=instance.commit,
        address=instance.address,
        state=instance.state,
        memory_limit=instance.memory,
        updated_at=max(instance.changed_at, instance.memory_at or instance.changed_at),
    )
