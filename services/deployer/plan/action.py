"""Defines the parts of a plan: changes, which are stored in one transaction, and background work, which is
idempotent.
"""

from dataclasses import dataclass

from shared.models import InstanceState, ReleaseState


@dataclass(frozen=True)
class AddInstance:
    """Requests a new instance of the release. A record of the instance is stored first; the work `StartInstance` then
    starts it.
    """

    release: str
    replaces: str | None = None
    """Id of the failed instance that the new one replaces, and whose restart count it continues; None if there is none.
    """


@dataclass(frozen=True)
class MoveInstance:
    """Moves the instance to another state, for a reason."""

    instance: str
    state: InstanceState
    reason: str
    fault: bool = False
    """True if the move is a failure that counts against the release, which then fails or is rolled back."""


@dataclass(frozen=True)
class RecordAddress:
    """Records the address at which the instance listens."""

    instance: str
    address: str
    """`host:port`."""


@dataclass(frozen=True)
class RecordEnd:
    """Records that no process or container of the instance runs any more."""

    instance: str


@dataclass(frozen=True)
class DropInstance:
    """Deletes the record of an ended instance."""

    instance: str


@dataclass(frozen=True)
class MoveRelease:
    """Moves the release to another state, and records the reason."""

    release: str
    state: ReleaseState
    reason: str
    abort_rollout: bool = False
    """True if the rollout of the release, a canary, must be aborted at the proxy."""
    superseded_by: str | None = None
    """Id of the newer release that replaces this one before it went live; None if there is none."""
    platform_fault: bool = False
    """True if the release fails because a part of the platform was unavailable for too long, not through its own
    fault.
    """


@dataclass(frozen=True)
class Switch:
    """Records that the instances of older releases may be drained, because those of `release` get visitors. From then
    on, only a rollback brings the old instances back.
    """

    release: str


@dataclass(frozen=True)
class DrainOld:
    """Records that a stop-first release may drain the instances of older releases; it starts its own instances only
    after these have stopped. The downtime of the app begins.
    """

    release: str


@dataclass(frozen=True)
class RecordDowntime:
    """Records the end of the downtime that a stop-first release causes (its old instances stop before its new ones
    start): an instance gets visitors again.
    """

    release: str


@dataclass(frozen=True)
class Wait:
    """Stores, as the release's reason, what the release waits for now, in words for people."""

    release: str
    reason: str


@dataclass(frozen=True)
class StopClock:
    """Records that a part of the platform is unavailable. From now on, time does not count toward the deadline by which
    the release's instances must be ready.
    """

    release: str
    reason: str
    """Name of the part that is unavailable, and why, in words for people."""


@dataclass(frozen=True)
class CreditClock:
    """Takes the last `seconds` off the time that counts toward the deadline by which the release's instances must be
    ready. From now on, time counts again.
    """

    release: str
    seconds: float


@dataclass(frozen=True)
class RaiseMemory:
    """Raises the memory limit of the environment's instances, because one of `release` was killed at its limit."""

    release: str
    memory: int
    """New memory limit of each instance, in bytes."""


@dataclass(frozen=True)
class RecordStopped:
    """Records that a stopped environment has no instances left."""

    release: str
    """Id of the live release, which a start of the environment brings back."""


@dataclass(frozen=True)
class BeginRebuild:
    """Records that no instance can be started from the live release's artifact, so that its commit is built again."""

    release: str
    cause: str
    """Says why the artifact cannot be run."""


@dataclass(frozen=True)
class EndRebuild:
    """Deletes the record that the release's artifact is to be built again, because the environment was stopped or
    removed.
    """

    release: str


InstanceChange = AddInstance | MoveInstance | RecordAddress | RecordEnd | DropInstance
ReleaseChange = MoveRelease | Switch | DrainOld | RecordDowntime | Wait | StopClock | CreditClock | RaiseMemory
Change = InstanceChange | ReleaseChange | RecordStopped | BeginRebuild | EndRebuild


@dataclass(frozen=True)
class Check:
    """Checks whether the driver could start the release's instances, without starting one."""

    release: str


@dataclass(frozen=True)
class StartInstance:
    """Starts the process or container of the instance."""

    instance: str


@dataclass(frozen=True)
class StopInstance:
    """Stops the process or container of the instance, which has drained or failed."""

    instance: str


@dataclass(frozen=True)
class SetMemory:
    """Changes the memory limit of the running instance."""

    instance: str
    memory: int
    """New memory limit, in bytes."""


@dataclass(frozen=True)
class SyncProxy:
    """Makes the proxy service read the registry of instances. The proxy answers with the state of each instance's
    route.
    """


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
    """Creates a release of the last build that worked, to replace `release`, which is faulty."""

    release: str


@dataclass(frozen=True)
class FollowRebuild:
    """Requests a build of the release's commit from the build service, or checks the state of that build."""

    release: str


InstanceWork = StartInstance | StopInstance | SetMemory
ReleaseWork = Check | SyncProxy | OpenRollout | AbortRollout | AutoRollback | FollowRebuild
Work = InstanceWork | ReleaseWork
