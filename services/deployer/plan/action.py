"""Defines the parts of a plan: changes, which are stored in one transaction, and work, which is idempotent and runs in
the background.
"""

from dataclasses import dataclass

from shared.models import InstanceState, ReleaseState


@dataclass(frozen=True)
class AddInstance:
    """Adds an instance to the release."""

    release: str
    replaces: str | None = None
    """Id of the failed instance that it replaces and whose restart count it continues."""


@dataclass(frozen=True)
class MoveInstance:
    """Moves the instance to another state."""

    instance: str
    state: InstanceState
    reason: str
    fault: bool = False
    """True if it counts against the release, which is starting or being watched."""


@dataclass(frozen=True)
class RecordAddress:
    """Records the instance's address."""

    instance: str
    address: str
    """`host:port`."""


@dataclass(frozen=True)
class RecordEnd:
    """Records that nothing of the instance runs any more."""

    instance: str


@dataclass(frozen=True)
class DropInstance:
    """Deletes the record of an ended instance."""

    instance: str


@dataclass(frozen=True)
class MoveRelease:
    """Moves the release to another state."""

    release: str
    state: ReleaseState
    reason: str
    abort_rollout: bool = False
    """True if the proxy must abort the release's rollout."""


@dataclass(frozen=True)
class Switch:
    """Marks the point from which the old instances are taken out, and only a rollback leads back."""

    release: str


@dataclass(frozen=True)
class MakeRoom:
    """Marks the point from which the old instances are taken out, before the release's own are started (stop-first)."""

    release: str


@dataclass(frozen=True)
class RecordDowntime:
    """Records that an instance serves again after the stop-first release left none in the route."""

    release: str


@dataclass(frozen=True)
class Wait:
    """Records the condition that the release waits for as its reason, in words for a person."""

    release: str
    reason: str


@dataclass(frozen=True)
class RaiseMemory:
    """Raises the memory of the environment's instances, since an instance of the release was killed at its limit."""

    release: str
    memory: int
    """Limit of each instance, in bytes."""


InstanceChange = AddInstance | MoveInstance | RecordAddress | RecordEnd | DropInstance
ReleaseChange = MoveRelease | Switch | MakeRoom | RecordDowntime | Wait | RaiseMemory
Change = InstanceChange | ReleaseChange


@dataclass(frozen=True)
class Check:
    """Checks whether the release's instances can be started, as far as that is known without starting one."""

    release: str


@dataclass(frozen=True)
class StartInstance:
    """Starts the process or container of the instance."""

    instance: str


@dataclass(frozen=True)
class StopInstance:
    """Ends the instance, which has drained or failed."""

    instance: str


@dataclass(frozen=True)
class SetMemory:
    """Changes the memory limit of the running instance."""

    instance: str
    memory: int
    """The new limit, in bytes."""


@dataclass(frozen=True)
class SyncProxy:
    """Makes the proxy read the registry and report the resulting routes."""


@dataclass(frozen=True)
class OpenRollout:
    """Opens the rollout of a canary release at the proxy."""

    release: str


@dataclass(frozen=True)
class AbortRollout:
    """Aborts the rollout of a canary release at the proxy."""

    release: str


@dataclass(frozen=True)
class AutoRollback:
    """Creates a new release of the last good build, to replace this faulty release."""

    release: str


Work = Check | StartInstance | StopInstance | SetMemory | SyncProxy | OpenRollout | AbortRollout | AutoRollback
