"""Defines the port between the deployer and an engine that runs instances: processes, containers, later Swarm."""

import signal
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from shared.models import Artifact

KILLED = 128 + signal.SIGKILL  # the exit code of what SIGKILL ended, as a shell reports it


class DriverError(Exception):
    """The engine refused the call or failed; the message is for a person."""


class UnknownInstance(DriverError):
    """The engine does not know the instance: it was never started, or was forgotten."""


class Unsupported(DriverError):
    """This engine does not support the call."""


class NoAnswer(DriverError):
    """The engine does not answer, so it is unknown whether it carried out the call; repeat the call."""


class ArtifactGone(DriverError):
    """The artifact to run does not exist any more."""


class ArtifactChanged(DriverError):
    """The artifact to run differs from the one that passed its gates; the message says how."""


@dataclass(frozen=True)
class VolumeMount:
    """A persistent folder of one app in one environment, which outlives instances and releases."""

    app: str
    environment: str
    name: str
    path: str
    """Mount point in a container; a process finds the folder's path in the environment variable `variable`."""

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
    """Run by `sh -c`; if empty, the image's own command."""
    environment: Mapping[str, str] = field(repr=False)
    """Environment variables; the driver adds its own."""
    memory: int
    """Memory limit, in bytes."""
    port: int
    """Port on which it listens in a container; the process driver picks another one."""
    volumes: tuple[VolumeMount, ...] = ()
    """Volumes of the instance; missing ones are created."""


@dataclass(frozen=True)
class InstanceStatus:
    """The engine's view of an instance that runs or has ended."""

    id: str
    address: str
    """`host:port`; empty where an ended instance has none any more."""
    running: bool
    started_at: datetime
    exit_code: int | None = None
    """None while it runs, and where its end was not observed; 128 + n after a kill by signal n."""
    interrupted: bool = False
    """True if it ended because the platform, the engine or the machine was stopped."""
    oom_killed: bool = False
    """True if a kill at its memory limit ended it."""
    oom_kills: int = 0
    """Number of kills at the memory limit during its life; 0 while it runs."""


@dataclass(frozen=True)
class Usage:
    """The resource use of a running instance."""

    started_at: datetime
    memory_limit: int
    """Bytes."""
    working_set: int
    """Bytes."""
    cpu_seconds: float
    """CPU time; a counter within one `started_at`."""
    oom_kills: int
    """Number of kills at the memory limit, which the instance may survive; a counter within one `started_at`."""
    memory_pressure: float | None = None
    """PSI `some avg10` in percent; None where the engine does not report it."""


class Driver(Protocol):
    """Runs instances that outlive the deployer. The engine itself remembers them: a new driver object on the same
    engine continues where the last one stopped. One deployer at a time uses a stack's instances.

    Order: `start`, any of the others, `stop`, `forget`. Each call is idempotent and may be interrupted anywhere
    (cancelled, or the deployer killed): repeating it completes it, and never makes a second copy. `stop`, `logs` and
    `set_memory` raise UnknownInstance for an instance that the engine does not know. Every method may raise
    DriverError. No method removes a volume: that is data. The caller keeps two instances from sharing one.
    """

    async def preflight(self, spec: InstanceSpec) -> None:
        """Raises DriverError with the reason if `start` is known to fail: the artifact is missing or changed, a volume
        is another app's. Changes nothing.
        """
        ...

    async def start(self, spec: InstanceSpec) -> InstanceStatus:
        """Starts the instance and returns its status without waiting until it is ready. An id is started once in its
        life: a repeated call returns the instance's status, even if it has ended.
        """
        ...

    async def stop(self, instance_id: str, grace_s: float) -> None:
        """Sends SIGTERM, and SIGKILL after `grace_s` seconds; returns when nothing of the instance runs any more. If
        cancelled, it leaves the instance with its SIGTERM. For an ended instance it ends what may be left of it.
        """
        ...

    async def statuses(self) -> dict[str, InstanceStatus]:
        """Returns the status of every instance that runs or has ended, until it is forgotten, by id."""
        ...

    async def logs(self, instance_id: str, lines: int) -> list[str]:
        """Returns the last `lines` lines of the output of a running or ended instance, oldest first."""
        ...

    async def usage(self, instance_ids: Iterable[str]) -> dict[str, Usage]:
        """Returns the resource use of the running instances among `instance_ids`, by id; the others have no item:
        missing data is not zero.
        """
        ...

    async def set_memory(self, instance_id: str, memory: int) -> None:
        """Changes the memory limit of a running instance to `memory` bytes, without a restart. Raises DriverError and
        changes nothing if the instance uses more than 80 % of a lower limit, or does not run. Raises Unsupported where
        only a new instance can have another limit.
        """
        ...

    async def enforce(self) -> None:
        """Kills instances that are over their memory limit, where the kernel does not enforce it; call it about twice a
        second.
        """
        ...

    async def forget(self, instance_id: str) -> None:
        """Removes log and record of an ended instance, if there are any; raises DriverError if it runs."""
        ...

    async def verify(self, artifact: Artifact) -> None:
        """Raises ArtifactGone if the artifact is missing, and ArtifactChanged if it differs from the one that passed
        its gates.
        """
        ...

    async def tidy(self, needed: Collection[Artifact]) -> None:
        """Keeps logs within bounds, and removes this stack's images that are not `needed`; call it about once a minute.
        It keeps images built within the last hour, whose release may be on its way, and images that any container on
        the engine was made from. If nothing is needed, it removes nothing: an empty list may be missing data. The
        caller removes directories.
        """
        ...

    async def check(self) -> str | None:
        """Returns for `/ready` the reason why the engine is not well, and the remedy; None if it is well. Takes under
        2 s.
        """
        ...

    def watching_ends(self, on_end: Callable[[], None]) -> AbstractContextManager[None]:
        """Calls `on_end` for the duration of the context, from any thread, soon after an instance has ended, where the
        engine reports that. Calls may be spurious or missing: `statuses` is authoritative.
        """
        ...
