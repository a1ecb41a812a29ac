"""Defines the parts of a plan: changes, which are stored in one transaction, and idempotent background work."""

from dataclasses import dataclass

from shared.models import InstanceState, ReleaseState


@dataclass(frozen=True)
class AddInstance:
    """Adds an instance to the release."""

    release: str
    replaces: str | None = None
    """Id of the failed instance that it replaces; the new one continues its restart count."""


@dataclass(frozen=True)
class MoveInstance:
    """Moves the instance to another state."""

    instance: str
    state: InstanceState
    reason: str
    fault: bool = False
    """True if the move is a failure that makes the release fail or be rolled back."""


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
    superseded_by: str | None = None
    """Id of the newer release that takes its place before it was live."""
    platform_fault: bool = False
    """True if a part of the platform was away for too long."""


@dataclass(frozen=True)
class Switch:
    """Records that the old instances may be drained; from here on only a rollback brings them back."""

    release: str


@dataclass(frozen=True)
class MakeRoom:
    """Records that a stop-first release drains the old instances before it starts its own; the outage begins."""

    release: str


@dataclass(frozen=True)
class RecordDowntime:
    """Records the end of the outage of a stop-first release, as an instance serves again."""

    release: str


@dataclass(frozen=True)
class Wait:
    """Stores, as the release's reason, the condition that it waits for, in words for people."""

    release: str
    reason: str


@dataclass(frozen=True)
class StopClock:
    """Records that a part of the platform is away, so that the release's clock stands (`ready_deadline.py`)."""

    release: str
    reason: str
    """The part that is away, in words for people."""


@dataclass(frozen=True)
class CreditClock:
    """Records that the release's clock stood for the last seconds, and that it runs again."""

    release: str
    seconds: float


@dataclass(frozen=True)
class RaiseMemory:
    """Raises the memory limit of the environment's instances, since one of the release was killed at its limit."""

    release: str
    memory: int
    """New limit of each instance, in bytes."""


@dataclass(frozen=True)
class RecordStopped:
    """Records that a stopped environment has no instance left."""

    release: str
    """Id of the live release, which a start brings back."""


@dataclass(frozen=True)
class BeginRebuild:
    """Records that no instance can be started from the live release's artifact, so that its commit is built again."""

    release: str
    cause: str
    """Why the artifact cannot be run."""


@dataclass(frozen=True)
class EndRebuild:
    """Records that the release needs no rebuild."""

    release: str


InstanceChange = AddInstance | MoveInstance | RecordAddress | RecordEnd | DropInstance
ReleaseChange = MoveRelease | Switch | MakeRoom | RecordDowntime | Wait | StopClock | CreditClock | RaiseMemory
Change = InstanceChange | ReleaseChange | RecordStopped | BeginRebuild | EndRebuild


@dataclass(frozen=True)
class Check:
    """Checks, without starting one, whether the engine could start the release's instances."""

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
    """New limit, in bytes."""


@dataclass(frozen=True)
class SyncProxy:
    """Makes the proxy read the registry; its answer tells the route of each instance."""


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
    """Creates a release of the last good build, to replace this faulty release."""

    release: str


@dataclass(frozen=True)
class FollowRebuild:
    """Asks build to build the release's commit again, or looks how far that is."""

    release: str


InstanceWork = StartInstance | StopInstance | SetMemory
ReleaseWork = Check | SyncProxy | OpenRollout | AbortRollout | AutoRollback | FollowRebuild
Work = InstanceWork | ReleaseWork
