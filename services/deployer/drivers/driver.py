"""Defines the port between the deployer and an engine that runs instances: processes or containers."""

import signal
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from shared.models import Artifact

KILLED = 128 + signal.SIGKILL  # the exit code of what SIGKILL ended, as a shell reports it


class DriverError(Exception):
    """Raised if the engine refuses the call or fails; the message is for people."""


class UnknownInstance(DriverError):
    """Raised for an instance that was never started, or was forgotten."""


class Unsupported(DriverError):
    """Raised if this engine does not support the call."""


class NoAnswer(DriverError):
    """Raised if the engine does not answer, so that it may have carried out the call or not; repeat the call."""


class MachineShort(NoAnswer):
    """Raised if the machine is short of what the call needs, such as disk space; repeat the call, but not at once."""


class ArtifactGone(DriverError):
    """Raised if the artifact to run does not exist any more."""


class ArtifactChanged(DriverError):
    """Raised if the artifact to run differs from the one that passed its gates; the message says how."""


@dataclass(frozen=True)
class VolumeMount:
    """A persistent folder of one app in one environment, which outlives instances and releases."""

    app: str
    environment: str
    name: str
    path: str
    """Mount point in a container. A process finds the folder by the environment variable `variable` instead."""

    @property
    def variable(self) -> str:
        """Returns the name of the environment variable that holds the folder's path."""
        return f"SLIPWAY_VOLUME_{self.name.upper().replace('-', '_')}"


@dataclass(frozen=True)
class InstanceSpec:
    """Describes an instance to start."""

    id: str
    artifact: Artifact
    command: str
    """Command for `sh -c`; if empty, the image's own command runs."""
    environment: Mapping[str, str] = field(repr=False)
    """Environment variables by name; the driver adds its own."""
    memory: int
    """Memory limit, in bytes."""
    port: int
    """Port on which it listens in a container. The process driver picks another one, as variable `PORT` says."""
    volumes: tuple[VolumeMount, ...] = ()
    """Volumes of the instance; the driver creates missing ones."""

    @property
    def release(self) -> str:
        """Returns the id of its release, as the app gets it; empty if it has none."""
        return self.environment.get("SLIPWAY_RELEASE", "")


@dataclass(frozen=True, kw_only=True)
class InstanceIdentity:
    """The release and artifact of an instance, as the engine's record (labels, or a file) has them. Fields are empty if
    an earlier version of Slipway wrote the record."""

    release: str = ""
    """Id of the release for which it was started."""
    artifact: str = ""
    """Digest of the artifact that it runs."""

    def is_of(self, release: str, artifact: Artifact) -> bool:
        """Returns False if it was started for another release, or from another artifact. An empty field matches every
        release or artifact."""
        return self.release in ("", release) and self.artifact in ("", artifact.digest)


@dataclass(frozen=True)
class InstanceStatus(InstanceIdentity):
    """The engine's view of an instance that runs or has ended."""

    id: str
    address: str
    """`host:port`; an ended instance may have none (empty)."""
    running: bool
    started_at: datetime
    exit_code: int | None = None
    """128 + n after a kill by signal n; None while it runs, or if its end was not observed."""
    interrupted: bool = False
    """True if it ended because the platform, the engine or the machine was stopped."""
    oom_killed: bool = False
    """True if a kill at its memory limit ended it."""
    oom_kills: int = 0
    """Number of kills at the memory limit (also of its children) during its life; 0 while it runs."""
    capabilities: tuple[str, ...] | None = None
    """Linux capabilities that it kept, sorted; None if the engine takes none away."""


@dataclass(frozen=True)
class RunningInstance(InstanceIdentity):
    """Something that runs with this stack's marks of an instance, whoever started it. The marks are labels of a
    container, or a variable in the environment of a process."""

    handle: str
    """Name by which `remove` finds it, unique also among several with the same `id`."""
    id: str
    """Id of the instance that it is marked as."""
    is_copy: bool = False
    """True if `start` has not made it, although it has the marks of the instance `id`."""


@dataclass(frozen=True)
class Usage:
    """The resource use of a running instance."""

    started_at: datetime
    memory_limit: int
    """Bytes."""
    working_set: int
    """Bytes."""
    cpu_seconds: float
    """CPU time since `started_at`."""
    oom_kills: int
    """Number of kills at the memory limit since `started_at`; the instance may survive the kill of a child."""
    memory_pressure: float | None = None
    """PSI `some avg10` in percent; None where the engine does not report it."""


class Volumes(Protocol):
    """Lists and removes the volumes of an engine, for an environment that has no instances any more. Every method may
    raise DriverError.
    """

    async def names(self, app: str, environment: str) -> list[str]:
        """Returns the names of the environment's volumes, sorted."""
        ...

    async def remove(self, app: str, environment: str, name: str) -> None:
        """Removes the volume with its content; does nothing if there is none."""
        ...


class Driver(Protocol):
    """Runs instances that outlive the deployer. The engine itself remembers them, so a new driver object on the same
    engine continues with the same instances. Only one deployer at a time may use a stack's instances.

    An instance is known by its id, its release and the digest of its artifact. For one, `start` comes first, then any
    other calls, then `stop` and `forget`. Each call is idempotent: if it is interrupted (cancelled, or the deployer
    killed), repeating it completes it, and never makes a second copy. `stop`, `logs` and `set_memory` raise
    UnknownInstance for an instance that the engine does not know. Every method may raise DriverError. No method removes
    a volume, or prevents two instances from sharing one.
    """

    async def preflight(self, spec: InstanceSpec) -> None:
        """Raises DriverError with the reason if `start` is known to fail: the artifact is missing or changed, a volume
        belongs to another app, or the memory limit is above all of the machine's memory. Changes nothing.
        """
        ...

    async def start(self, spec: InstanceSpec) -> InstanceStatus:
        """Starts the instance and returns its status without waiting until it is ready. Each id is started only once: a
        repeated call returns the instance's status, even if it has ended. What was started under this id for another
        release or from another artifact is ended and removed first. Raises DriverError if something is in the way that
        is not this stack's; the message says what, and how to remove it.
        """
        ...

    async def stop(self, instance_id: str, grace_s: float) -> None:
        """Sends SIGTERM, and SIGKILL after `grace_s` seconds; returns when all processes of the instance have ended.
        For an ended instance it ends processes that are left. A cancelled call may have sent SIGTERM only.
        """
        ...

    async def statuses(self, instance_ids: Iterable[str] | None = None) -> dict[str, InstanceStatus]:
        """Returns the status by id of each of `instance_ids` that runs or has ended, unless it was forgotten; None
        stands for all instances of the stack.
        """
        ...

    async def running(self) -> list[RunningInstance]:
        """Returns everything that runs with this stack's marks of an instance: also copies, and instances of which the
        deployer has no record."""
        ...

    async def remove(self, found: RunningInstance, grace_s: float) -> None:
        """Ends what `running` found, as `stop` does, and removes it, so that no engine starts it again. Does nothing if
        it has ended.
        """
        ...

    async def logs(self, instance_id: str, lines: int) -> list[str]:
        """Returns the last `lines` lines of the output of a running or ended instance, oldest first."""
        ...

    async def listening(self, instance_id: str) -> list[str] | None:
        """Returns the addresses (`host:port`) on which the running instance listens for TCP connections, in its own
        network; None if the engine cannot tell.
        """
        ...

    async def usage(self, instance_ids: Iterable[str]) -> dict[str, Usage]:
        """Returns the resource use by id of the running instances among `instance_ids`; others have no item."""
        ...

    async def set_memory(self, instance_id: str, memory: int) -> None:
        """Changes the memory limit of a running instance to `memory` bytes, without a restart. Raises DriverError if it
        does not run or uses more than 80 % of a lower limit, Unsupported if only a new instance can have another limit;
        then nothing changes.
        """
        ...

    async def enforce(self) -> None:
        """Kills instances over their memory limit, if the kernel does not; call it about twice a second."""
        ...

    async def forget(self, instance_id: str) -> None:
        """Removes log and record of an ended instance, if there are any. Raises DriverError if it runs."""
        ...

    async def verify(self, artifact: Artifact) -> None:
        """Raises ArtifactGone if the artifact is missing, ArtifactChanged if it has changed since its build."""
        ...

    async def tidy(self, needed: Collection[Artifact]) -> None:
        """Limits the size of logs, and removes this stack's images that are not `needed`; call it about once a minute.
        It keeps images built within the last hour, which a release may be about to use, and images of existing
        containers. If `needed` is empty it removes nothing: the list may be incomplete. It removes no artifact
        directories.
        """
        ...

    async def check(self) -> str | None:
        """Returns for `/ready`, within 2 s, why the engine does not work, and the remedy; None if it works."""
        ...

    def watching_ends(self, on_end: Callable[[str | None], None]) -> AbstractContextManager[None]:
        """Calls `on_end`, from any thread, soon after the end of an instance that `start` or `statuses` reported as
        running, until the context is left: with its id, or with None if any may have ended. Calls may be spurious, or
        missing, so read `statuses` from time to time. Enter it in the event loop.
        """
        ...
