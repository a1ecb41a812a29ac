"""Defines the executor port: how steps are run and how a build that passed is sealed as an artifact.

`process/executor.py` runs steps as processes, `docker/executor.py` in containers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol

from services.build.system.pipe import Output
from services.build.system.stop import Stop
from shared.models import Artifact


class Unsealed(Exception):
    """Reports that a commit cannot be made into an artifact, by its own fault; the message says why, and continues
    `it`."""


BRANCH = "CI_COMMIT_BRANCH"  # where a step finds its branch's name

Images = frozenset[tuple[str, str]]  # ref and digest of artifacts


@dataclass(frozen=True)
class Workspace:
    """Describes the build that an executor works for, and the folders that it works in."""

    build: str
    app: str
    commit: str
    branch: str | None
    number: int
    folder: Path
    """Checkout of the build's commit."""
    scratch: Path
    """HOME and TMPDIR of the steps; removed at the end of the build."""


@dataclass(frozen=True)
class ServiceOrder:
    """Describes one service that runs during the commands of an order."""

    name: str
    image: str | None
    command: str | None
    environment: Mapping[str, str] = field(repr=False)
    port: int | None
    """Port that a service in a container listens on; a service as a process gets its port in $PORT."""
    ready: str | None
    """Command that succeeds when the service is ready. If None, the service is ready when it listens."""
    timeout_s: float
    """Seconds until the service has to be ready."""

    def address(self, host: str, port: int | None) -> dict[str, str]:
        """Returns the environment variables by which the commands find the service: `<NAME>_HOST` and, with a port,
        `<NAME>_PORT`."""
        name = self.name.upper().replace("-", "_")
        return {f"{name}_HOST": host, **({f"{name}_PORT": str(port)} if port is not None else {})}


@dataclass(frozen=True)
class Order:
    """Describes the commands of one step, which run one after the other in the workspace's folder until one fails.

    The services are ready before the first command, and end after the last one.
    """

    commands: Sequence[str]
    timeout_s: float
    """Seconds for all commands together."""
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Variables of these commands alone; may hold secrets, and never goes into a command line. It takes precedence over
    the variables of the services."""
    image: str | None = None
    """Image that the commands run in, where an executor uses images; None leaves the choice to the executor."""
    reports: Sequence[str] = ()
    """Paths, relative to the folder, at which the caller looks for reports afterwards."""
    services: Sequence[ServiceOrder] = ()


@dataclass(frozen=True)
class Outcome:
    """Records how a step, or the preparation of a workspace, ended."""

    exit_code: int | None
    """Exit code of the last command; None when it was ended from outside or did not start."""
    reason: str = ""
    """Reason of the failure, to follow the step's name; empty on success."""
    skipped: int | None = None
    """Number of commands that were not run because an earlier one failed; None if that is not known."""


@dataclass(frozen=True)
class SealRequest:
    """Describes what is to be sealed as an artifact."""

    source: Path
    """Second checkout, which no step has touched. `seal` may move it."""
    command: str | None
    """Command that runs the app, if the manifest or the repository tells one."""
    committed_at: datetime
    url: str
    """URL of the repository."""
    volumes: Sequence[str] = ()
    """Paths that the app writes to."""


@dataclass(frozen=True)
class Leavings:
    """Names the builds and apps that have leftovers in an executor."""

    builds: frozenset[str]
    """Ids of the builds of which more exists than their artifact."""
    apps: frozenset[str]
    """Names of the apps that have a cache."""


class Executor(Protocol):
    """Runs the steps of a build and seals its artifact: `prepare` once, `run` for each step (also several at a time),
    `seal` if all passed, `discard` at the end in any case.

    `output` is called with printed bytes as they arrive. When `stop` is set, the time is over or the call is cancelled,
    everything that the call started is ended before it returns, and nothing else; the same holds after a normal end.
    """

    @property
    def builds_images(self) -> bool:
        """Returns True if artifacts are images: a Dockerfile says how the app is run, and `seal` needs a `source`."""
        ...

    async def prepare(self, workspace: Workspace, output: Output, stop: Stop) -> Outcome:
        """Creates what the steps need in addition to the checkout."""
        ...

    async def run(self, workspace: Workspace, order: Order, output: Output, stop: Stop) -> Outcome:
        """Runs one step. A failing command, or a service that does not become ready, is an Outcome and not an
        exception.

        The reports lie in the folder afterwards; their modification time is that of the step's write, by the clock of
        the folder's file system.
        """
        ...

    async def seal(self, workspace: Workspace, delivery: SealRequest, output: Output, stop: Stop) -> Artifact:
        """Returns the artifact, named by its digest. It is idempotent: the same commit gives the same artifact. Raises
        Unsealed and Stopped."""
        ...

    async def has(self, artifact: Artifact) -> bool:
        """Returns True if the artifact still exists unchanged. That counts as a use: garbage collection by age spares
        the artifact for the time that a release takes."""
        ...

    async def images(self) -> Images | None:
        """Returns the refs and digests of all sealed images that still exist, of all builds; None where that is not
        known. This does not count as a use."""
        ...

    async def end_leftovers(self, workspace: Workspace) -> int:
        """Ends what an earlier run of this workspace left when the service was killed; returns how many processes or
        containers."""
        ...

    async def discard(self, workspace: Workspace) -> None:
        """Removes everything that was made for this workspace except its artifact. Idempotent."""
        ...

    async def leavings(self) -> Leavings:
        """Returns the builds and apps that have leftovers, also those of earlier runs of the service."""
        ...

    async def remove(self, leavings: Leavings) -> None:
        """Removes leftovers of builds that have ended, and caches of apps. Idempotent."""
        ...

    async def check(self) -> str | None:
        """Returns why no step can run now, with the remedy, for `/ready`; None if steps can run. Answers within 2 s."""
        ...
