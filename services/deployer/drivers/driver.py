"""Defines the interface (port) between the deployer and the engine that runs instances: this machine's processes, or a
Docker Engine with containers.
"""

import signal
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from shared.models import Artifact

KILLED = 128 + signal.SIGKILL  # exit code after SIGKILL, as a shell reports it


class DriverError(Exception):
    """Reports that the engine refused the call or failed; the message is for people."""


class UnknownInstance(DriverError):
    """Reports that the engine does not know an instance: it was never started, or `forget` has removed its record."""


class Unsupported(DriverError):
    """Reports that this driver does not support the call."""


class NoAnswer(DriverError):
    """Reports that the engine did not answer. It may or may not have carried out the call; the caller should repeat
    it.
    """


class MachineShort(NoAnswer):
    """Reports that the machine lacks something that the call needs, such as disk space. The caller should repeat the
    call, but not at once.
    """


class ArtifactUnusable(DriverError):
    """Reports that no instance can be started from the artifact any more. Only a new build of its commit helps."""


class ArtifactGone(ArtifactUnusable):
    """Reports that the artifact to run no longer exists."""


class ArtifactChanged(ArtifactUnusable):
    """Reports that the artifact to run differs from the one that passed the gates; the message says how."""


@dataclass(frozen=True)
class VolumeMount:
    """Describes a volume of one app in one environment, and where an instance finds it."""

    app: str
    environment: str
    name: str
    path: str
    """Mount point in a container. A process finds the folder through the environment variable `variable` instead."""

    @property
    def variable(self) -> str:
        """Returns the name of the environment variable that holds the path of the volume's folder."""
        return f"SLIPWAY_VOLUME_{self.name.upper().replace('-', '_')}"


@dataclass(frozen=True)
class InstanceSpec:
    """Describes an instance to start."""

    id: str
    artifact: Artifact
    command: str
    """Command for `sh -c`; if empty, the image's own command is run."""
    environment: Mapping[str, str] = field(repr=False)
    """Environment variables of the instance; the driver adds some of its own."""
    memory: int
    """Memory limit, in bytes."""
    port: int
    """Port on which the instance listens in a container. The process driver picks another port, which the variable
    `PORT` names.
    """
    volumes: tuple[VolumeMount, ...] = ()
    """Volumes of the instance; the driver creates missing ones."""
    is_new: bool = False
    """True for an instance of a release that was not live yet. The driver compares the memory limit with the machine's
    memory only for such an instance, because a release that was live before must go on.
    """

    @property
    def release(self) -> str:
        """Returns the id of the instance's release, from the variable `SLIPWAY_RELEASE`; empty if that is not set."""
        return self.environment.get("SLIPWAY_RELEASE", "")


@dataclass(frozen=True, kw_only=True)
class InstanceIdentity:
    """Names the release and artifact of an instance, as the driver recorded them (in labels or a file). A field is
    empty if an earlier version of Slipway made the record.
    """

    release: str = ""
    """Id of the release for which the instance was started."""
    artifact: str = ""
    """Digest of the artifact that the instance runs."""

    def is_of(self, release: str, artifact: Artifact) -> bool:
        """Returns False if the instance was started for another release or from another artifact. An empty field
        matches every release or artifact.
        """
        return self.release in ("", release) and self.artifact in ("", artifact.digest)


@dataclass(frozen=True)
class InstanceStatus(InstanceIdentity):
    """Describes an instance that is running or has ended, as the driver sees it."""

    id: str
    address: str
    """`host:port`; an ended instance may have none (empty)."""
    running: bool
    started_at: datetime
    exit_code: int | None = None
    """Exit code of the ended instance: 128 + n after a kill by signal n. None while it runs, or if its end was not
    observed.
    """
    interrupted: bool = False
    """True if the instance ended because the platform, the engine or the machine was stopped."""
    oom_killed: bool = False
    """True if a kill at its memory limit ended the instance."""
    oom_kills: int = 0
    """Number of kills at the memory limit (also of child processes) during the life of an ended instance; 0 while it
    runs.
    """
    capabilities: tuple[str, ...] | None = None
    """Linux capabilities of the instance, sorted; None if the driver takes none away."""


@dataclass(frozen=True)
class RunningInstance(InstanceIdentity):
    """Describes a process or container that carries the marks of an instance of this stack (this installation of the
    platform), whatever started it. The marks are labels of a container, or a variable in the environment of a process.
    """

    handle: str
    """Name by which `remove` finds it; unique even if several have the same `id`."""
    id: str
    """Id of the instance that the marks name."""
    is_copy: bool = False
    """True if it carries the marks of the instance `id` but was not made by `start`."""


@dataclass(frozen=True)
class Usage:
    """Holds the resource use of a running instance."""

    started_at: datetime
    memory_limit: int
    """Memory limit, in bytes."""
    working_set: int
    """Memory in use without page cache that the kernel would drop first, in bytes."""
    cpu_seconds: float
    """CPU time since `started_at`, in seconds."""
    oom_kills: int
    """Number of kills at the memory limit since `started_at`. The instance may have survived, if a kill hit a child
    process.
    """
    memory_pressure: float | None = None
    """Share of the last 10 s in which processes of the instance waited for memory, in percent (PSI `some avg10`); None
    if unknown.
    """


class Volumes(Protocol):
    """Lists and removes the volumes of an environment that has no instances any more. Every method may raise
    DriverError.
    """

    async def names(self, app: str, environment: str) -> list[str]:
        """Returns the names of the environment's volumes, sorted."""
        ...

    async def remove(self, app: str, environment: str, name: str) -> None:
        """Removes the volume with its content; does nothing if there is no such volume."""
        ...


class Driver(Protocol):
    """Starts and stops instances, and reports on them. Instances outlive the deployer: the engine remembers them, so
    that a new driver object continues with the same instances. Only one deployer at a time may use a stack's instances.
    An instance is identified by its id, its release and the digest of its artifact. For each, `start` comes first, then
    any other calls, then `stop` and `forget`. Each call is idempotent: if it is interrupted (cancelled, or the deployer
    killed), repeating it completes it, and never makes a second copy. `stop`, `logs` and `set_memory` raise
    UnknownInstance for an instance that the engine does not know. Every method may raise DriverError. No method removes
    a volume, or prevents two instances from using the same one.
    """

    async def preflight(self, spec: InstanceSpec) -> None:
        """Checks whether `start` would certainly fail; raises DriverError with the reason if so. The artifact may be
        missing or changed, a volume may belong to another app, or the memory limit of a new release may exceed the
        memory of the machine. Changes nothing.
        """
        ...

    async def start(self, spec: InstanceSpec) -> InstanceStatus:
        """Starts the instance and returns its status, without waiting until it is ready. Each id is started only once:
        a repeated call returns the instance's status, even if it has ended. If something was started under this id for
        another release or from another artifact, it is first ended and removed. Raises ArtifactUnusable, and
        DriverError if something that does not belong to this stack prevents the start (the message says what it is, and
        how to remove it), or if the memory limit of a new release exceeds the memory of the machine.
        """
        ...

    async def stop(self, instance_id: str, grace_s: float) -> None:
        """Stops the instance: SIGTERM, then SIGKILL after `grace_s` seconds. Returns when all its processes have ended.
        If the instance has ended already, ends processes that it has left. If the call is cancelled, the instance may
        have got SIGTERM only.
        """
        ...

    async def statuses(self, instance_ids: Iterable[str] | None = None) -> dict[str, InstanceStatus]:
        """Returns instance id → status, for each of `instance_ids` that is running or has ended, unless it was
        forgotten. None stands for all instances of the stack.
        """
        ...

    async def running(self) -> list[RunningInstance]:
        """Returns everything that runs with the marks of an instance of this stack, including copies and instances of
        which the deployer has no record.
        """
        ...

    async def remove(self, found: RunningInstance, grace_s: float) -> None:
        """Ends something that `running` has found (SIGTERM, then SIGKILL after `grace_s` seconds), and removes it, so
        that the engine does not start it again. Does nothing if it has ended.
        """
        ...

    async def logs(self, instance_id: str, lines: int) -> list[str]:
        """Returns the last `lines` lines of the output of a running or ended instance, oldest first."""
        ...

    async def listening(self, instance_id: str) -> list[str] | None:
        """Returns the addresses (`host:port`) on which the running instance listens for TCP connections, in its own
        network; None if the driver cannot find out.
        """
        ...

    async def usage(self, instance_ids: Iterable[str]) -> dict[str, Usage]:
        """Returns instance id → resource use, for those of `instance_ids` that are running."""
        ...

    async def set_memory(self, instance_id: str, memory: int) -> None:
        """Changes the memory limit of a running instance to `memory` bytes, without a restart. Raises DriverError if
        the instance is not running or uses more than 80 % of a lower limit, or if the limit exceeds the memory of the
        machine; raises Unsupported if only a new instance can have another limit. In these cases nothing changes.
        """
        ...

    async def enforce(self) -> None:
        """Kills instances that exceed their memory limit, if the kernel does not do so. The caller calls it about twice
        a second.
        """
        ...

    async def forget(self, instance_id: str) -> None:
        """Removes the log and record of an ended instance, if there are any. Raises DriverError if the instance is
        running.
        """
        ...

    async def verify(self, artifact: Artifact) -> None:
        """Raises ArtifactGone if the artifact is missing, ArtifactChanged if it has changed since its build, and
        ArtifactUnusable if no instance can be started from it for another reason.
        """
        ...

    async def collect_garbage(self, needed: Collection[Artifact]) -> None:
        """Limits the size of logs, and removes this stack's images that are not in `needed`. The caller calls it about
        once a minute. It keeps images built within the last hour, which a release may be about to use, and images of
        existing containers. If `needed` is empty it removes nothing, since the list may be incomplete. It removes no
        artifact that is a folder.
        """
        ...

    async def check(self) -> str | None:
        """Returns the reason why the driver does not work, with the remedy, to be shown by `GET /ready`; None if it
        works. Takes at most 2 s.
        """
        ...

    def watching_ends(self, on_end: Callable[[str | None], None]) -> AbstractContextManager[None]:
        """Calls `on_end`, from any thread, soon after an instance has ended that `start` or `statuses` reported as
        running. The argument is the instance's id, or None if any instance may have ended. This lasts until the context
        is left. A call may be missing, or come without an end, so the caller has to read `statuses` from time to time
        as well. It must enter the context in the event loop.
        """
        ...
