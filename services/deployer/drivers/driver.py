"""What the deployer asks of an engine that runs instances: processes, containers; Swarm fits the same shape."""

import signal
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from shared.models import Artifact

KILLED = 128 + signal.SIGKILL  # the exit code of what SIGKILL ended, as a shell tells it


class DriverError(Exception):
    """The engine refused or failed; the message is for a person."""


class UnknownInstance(DriverError):
    """The engine has never heard of the instance, or has been told to forget it."""


class Unsupported(DriverError):
    """This engine cannot do that."""


class NoAnswer(DriverError):
    """The engine does not answer: nobody knows whether it did what it was asked. To be asked again."""


class ArtifactGone(DriverError):
    """What is to be run is not there any more."""


class ArtifactChanged(DriverError):
    """What is to be run is not what passed its gates; the message says how it differs."""


@dataclass(frozen=True)
class VolumeMount:
    """A folder of the app's own in that environment: it outlives instances and releases, and other environments have
    another. `path`: where a container has it; a process is told where it lies.
    """

    app: str
    environment: str
    name: str
    path: str

    @property
    def variable(self) -> str:
        """Names the environment variable that tells the app the place."""
        return f"SLIPWAY_VOLUME_{self.name.upper().replace('-', '_')}"


@dataclass(frozen=True)
class InstanceSpec:
    """`command` is run by `sh -c` in a copy of the artifact; empty: an image's own. `memory` in bytes. `port`: where it
    is to listen in a container; a process is given another one. `volumes` are made where they are missing.
    """

    id: str
    artifact: Artifact
    command: str
    environment: Mapping[str, str] = field(repr=False)
    memory: int
    port: int
    volumes: tuple[VolumeMount, ...] = ()


@dataclass(frozen=True)
class InstanceStatus:
    """`address` is `host:port`, empty where an ended one has none any more. `exit_code` is None while it runs, and
    where nobody saw its end; 128 and more: ended by that signal plus 128. `interrupted`: it ended because the platform
    or the machine was stopped, not by itself. `oom_killed`: it ended by being killed at its memory limit. `oom_kills`:
    how many of its processes were in its life, known once it has ended.
    """

    id: str
    address: str
    running: bool
    started_at: datetime
    exit_code: int | None = None
    interrupted: bool = False
    oom_killed: bool = False
    oom_kills: int = 0


@dataclass(frozen=True)
class Usage:
    """`working_set` in bytes; `cpu_seconds` only grows within one `started_at`, and so does `oom_kills`: processes that
    were killed at the limit, which the instance may survive. `memory_pressure`: PSI `some avg10` in percent, None where
    nobody tells.
    """

    started_at: datetime
    memory_limit: int
    working_set: int
    cpu_seconds: float
    oom_kills: int
    memory_pressure: float | None = None


class Driver(Protocol):
    """Runs instances that outlive the deployer. The engine itself remembers them: a new driver object on the same
    engine goes on where the last one stopped. One deployer at a time uses an engine's instances.

    Order: `start`, any of the others, `stop`, `forget`. Each may be repeated, and may be cut off anywhere (cancelled,
    or the deployer killed): repeating it completes it, and never makes a second copy. All but `preflight`, `start` and
    `forget` of an instance that the engine does not know raise UnknownInstance. Every method may raise DriverError.
    Nothing ever removes a volume: that is data. That no two instances share one is the caller's affair.
    """

    async def preflight(self, spec: InstanceSpec) -> None:
        """Raises DriverError with the reason if `start` would surely fail, as far as that is told without starting: its
        artifact is missing, a volume is not the app's. Changes nothing.
        """
        ...

    async def start(self, spec: InstanceSpec) -> InstanceStatus:
        """Starts the instance and returns at once, not when it is ready. An id is started once in its life: repeated,
        it answers with the instance's status, also when that has ended.
        """
        ...

    async def stop(self, instance_id: str, grace_s: float) -> None:
        """SIGTERM, and SIGKILL after `grace_s` seconds; returns when nothing of the instance runs any more. Cancelled,
        it leaves the instance with its SIGTERM. Of an ended one it removes what may be left.
        """
        ...

    async def statuses(self) -> dict[str, InstanceStatus]:
        """Every instance that runs or has ended, until it is forgotten."""
        ...

    async def logs(self, instance_id: str, lines: int) -> list[str]:
        """The last lines of its output, oldest first; also of an ended one."""
        ...

    async def usage(self, instance_ids: Iterable[str]) -> dict[str, Usage]:
        """Of those that run; the others have no item: no data is not zero."""
        ...

    async def set_memory(self, instance_id: str, memory: int) -> None:
        """Another memory limit for a running instance, bytes, at once and without a restart. A limit that is near to
        what the instance uses now is refused with DriverError, and nothing changed. Raises Unsupported where only a
        new instance can have another limit.
        """
        ...

    async def enforce(self) -> None:
        """Kills what is over its memory limit where the machine does not do so by itself; to be called about twice a
        second.
        """
        ...

    async def forget(self, instance_id: str) -> None:
        """Removes log and record of an ended instance; raises DriverError if it runs."""
        ...

    async def verify(self, artifact: Artifact) -> None:
        """Raises ArtifactGone or ArtifactChanged unless what `start` would run is there, just as it was when it passed
        its gates.
        """
        ...

    async def tidy(self, needed: Collection[Artifact]) -> None:
        """Keeps logs within bounds, and removes the artifacts that the engine itself keeps for this stack (images) if
        they are not `needed`; to be called about once a minute. Kept are also what was built within the last hour,
        whose release may be on its way, and what anything on the engine was made from. If nothing is needed, nothing
        is removed: no data is no reason. Directories are left to the caller.
        """
        ...

    async def check(self) -> str | None:
        """For `/ready`: why the engine is not well, and the remedy; None if it is. Answers in under 2 s."""
        ...

    def telling_ends(self, tell: Callable[[], None]) -> AbstractContextManager[None]:
        """Within it, `tell` is called from any thread soon after an instance has ended, where the engine tells of that
        by itself. It may be called without need, and not be called: the truth is in `statuses`.
        """
        ...
