"""How steps are run and what passed is sealed: the port. `process_executor.py` runs them as processes,
`docker_executor.py` in containers."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol

from shared.models import Artifact


class Stopped(Exception):
    """What was asked to stop has stopped; all that it started has ended."""


class Unsealed(Exception):
    """What passed cannot be made into an artifact, by a fault of the commit; the message says which, after `it`."""


BRANCH = "CI_COMMIT_BRANCH"  # where a step finds its branch's name

Output = Callable[[bytes], None]
Images = frozenset[tuple[str, str]]  # ref and digest of artifacts
Stop = asyncio.Event


@dataclass(frozen=True)
class Workspace:
    """Where one build works. `folder` is its checkout; `scratch` its HOME and TMPDIR, removed at its end."""

    build: str
    app: str
    commit: str
    branch: str | None
    number: int
    folder: Path
    scratch: Path


@dataclass(frozen=True)
class ServiceOrder:
    """What runs beside the commands of one order: `command` in `image`, as far as each is given. It is ready when
    `ready` succeeds, else when it listens: on `port` in a container, on the $PORT that it is told as a process."""

    name: str
    image: str | None
    command: str | None
    environment: Mapping[str, str] = field(repr=False)
    port: int | None
    ready: str | None
    timeout_s: float

    def address(self, host: str, port: int | None) -> dict[str, str]:
        """The variables by which the commands find it."""
        name = self.name.upper().replace("-", "_")
        return {f"{name}_HOST": host, **({f"{name}_PORT": str(port)} if port is not None else {})}


@dataclass(frozen=True)
class Order:
    """`commands` run one after the other in the workspace's folder, until one fails. `timeout_s` is for all.
    `environment` may hold secrets: it goes to these commands alone, and into no command line.

    `image` is what they run in, where that can be chosen; None leaves it to what the repository is. `reports` are
    the paths, relative to the folder, of which the caller looks there afterwards. `services` are ready before the first
    command, and end with the last; `environment` goes before the variables that tell of them.
    """

    commands: Sequence[str]
    timeout_s: float
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    image: str | None = None
    reports: Sequence[str] = ()
    services: Sequence[ServiceOrder] = ()


@dataclass(frozen=True)
class Outcome:
    """`reason` is empty on success. `exit_code` is None when the step was ended from outside. `skipped`: how many
    commands were not run because one before them failed; None if that is not known."""

    exit_code: int | None
    reason: str = ""
    skipped: int | None = None


@dataclass(frozen=True)
class SealRequest:
    """What is to be sealed. `source` is a second checkout that no step has touched (`seal` may
    move it), `command` how the app is run if
    the manifest or the repository tells, `url` where the repository is found, `volumes` the paths
    that the app writes to."""

    source: Path
    command: str | None
    committed_at: datetime
    url: str
    volumes: Sequence[str] = ()


@dataclass(frozen=True)
class Leavings:
    """`builds`: ids of those of which more exists than their artifact. `apps`: those that have a cache."""

    builds: frozenset[str]
    apps: frozenset[str]


class Executor(Protocol):
    """`prepare` once, then `run` for each step, several at the same time if they may; `seal` if all passed, `discard`
    at the end, whatever it was.

    `output` is called with what is printed, as it comes. When `stop` is set, or the time is over, or the call is
    cancelled, everything that the call started is ended before it returns, and nothing else; so it is after a normal
    end.
    """

    @property
    def builds_images(self) -> bool:
        """Whether artifacts are images: then a Dockerfile says how the app is run, and `seal` needs a `source`."""
        ...

    async def prepare(self, workspace: Workspace, output: Output, stop: Stop) -> Outcome:
        """Makes what steps find in the folder beside the checkout."""
        ...

    async def run(self, workspace: Workspace, order: Order, output: Output, stop: Stop) -> Outcome:
        """A failing command, or a service that does not become ready, is an Outcome, not an error. Reports lie in the
        folder afterwards, modified when the step did so by the clock of the folder's file system."""
        ...

    async def seal(self, workspace: Workspace, delivery: SealRequest, output: Output, stop: Stop) -> Artifact:
        """The artifact, named by its digest. Repeating it with the same commit gives the same one. Raises Unsealed,
        Stopped."""
        ...

    async def has(self, artifact: Artifact) -> bool:
        """Whether it is there still, just as it was sealed. It counts as used then: what removes old artifacts by
        their age spares it for the time that a release takes."""
        ...

    async def images(self) -> Images | None:
        """Those that it sealed and that are there still, of all builds; None where that cannot be told. None of them
        counts as used by that."""
        ...

    async def end_leftovers(self, workspace: Workspace) -> int:
        """Ends what an earlier run of this workspace left, when the service was killed; says how many."""
        ...

    async def discard(self, workspace: Workspace) -> None:
        """Removes what was made for this workspace and is not its artifact. May be repeated."""
        ...

    async def leavings(self) -> Leavings:
        """What this executor, and those before it, made and have not removed, as far as it outlives a step."""
        ...

    async def remove(self, leavings: Leavings) -> None:
        """Of builds that have ended, and caches of apps. May be repeated."""
        ...

    async def check(self) -> str | None:
        """For `/ready`: why no step can be run now, and the remedy; None if one can. Answers in under 2 s."""
        ...
