"""Defines the executor port: how steps are run and how a build that passed becomes an artifact. `process/executor.py`
runs steps as processes, `docker/executor.py` in containers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol

from services.build.inference.inference import LanguagePart
from services.build.system.pipe import Output
from services.build.system.stop import Stop
from shared.models import Artifact


class Unsealed(Exception):
    """Reports that a commit cannot become an artifact, through a fault in the commit. The message is a predicate whose
    subject is the commit.
    """


BRANCH = "CI_COMMIT_BRANCH"  # where a step finds its branch's name

Images = frozenset[tuple[str, str]]  # ref and digest of artifacts


@dataclass(frozen=True)
class Workspace:
    """Describes a build to its executor, with the folders that it uses."""

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
    """Describes a service, such as a database, that runs while a step's commands run."""

    name: str
    image: str | None
    command: str | None
    environment: Mapping[str, str] = field(repr=False)
    port: int | None
    """Port on which a service in a container listens. A service that is a process gets a free port in $PORT instead."""
    ready: str | None
    """Command that succeeds once the service is ready; None: it listens, or its image's HEALTHCHECK passes."""
    timeout_s: float
    """Seconds within which the service has to be ready."""

    def address(self, host: str, port: int | None) -> dict[str, str]:
        """Returns the variables that locate the service for commands: `<NAME>_HOST` and perhaps `<NAME>_PORT`."""
        name = self.name.upper().replace("-", "_")
        return {f"{name}_HOST": host, **({f"{name}_PORT": str(port)} if port is not None else {})}


@dataclass(frozen=True)
class Order:
    """Describes the commands of one step. They run one after the other in the workspace's folder until one fails. The
    services are ready before the first command, and end after the last one."""

    commands: Sequence[str]
    timeout_s: float
    """Seconds that all commands together may take."""
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Further variables for the commands, which override others. They never appear in a command line."""
    image: str | None = None
    """Image in which the commands run; None: one of Python. Executors without images ignore it."""
    reports: Sequence[str] = ()
    """Paths of report files that the commands may write, relative to the workspace's folder, and globs for them."""
    services: Sequence[ServiceOrder] = ()


@dataclass(frozen=True)
class Outcome:
    """Records how a step, or the preparation of a workspace, ended: as a success if `reason` is empty."""

    exit_code: int | None
    """Exit code of the last command that ran; None if it did not end by itself or no command was started."""
    reason: str = ""
    """Reason of the failure, as a predicate of which the step is the subject ("exited with 1"); empty on success."""
    skipped: int | None = None
    """Number of commands not run because an earlier one failed; None if unknown."""


@dataclass(frozen=True)
class SealRequest:
    """Describes how to make the artifact of a commit that passed."""

    source: Path
    """Fresh checkout of the commit, which no step has touched and `seal` may move."""
    command: str | None
    """Command that runs the app; None if only a Dockerfile says it."""
    committed_at: datetime
    url: str
    """URL of the repository."""
    volumes: Sequence[str] = ()
    """Paths of folders that outlive the app's instances."""
    uses_python: bool = True
    """False if neither the run command nor any file of the commit names Python or pip."""
    stages: Sequence[LanguagePart] = ()
    """Parts from which an image is built if the commit has no Dockerfile."""


@dataclass(frozen=True)
class Leavings:
    """Names the builds and apps of which an executor still keeps objects besides artifacts."""

    builds: frozenset[str]
    """Ids of builds with containers, networks or volumes."""
    apps: frozenset[str]
    """Names of the apps that have a cache."""


class Executor(Protocol):
    """Runs the steps of a build and seals its artifact: `prepare` once, `run` for each step (also in parallel),
    `misfit` after all of them, `seal` if the build passed, `discard` in any case. `output` gets the printed bytes as
    they arrive. Each call ends all processes that it started before it returns, also on a time-out, when `stop` is set,
    and when it is cancelled."""

    @property
    def builds_images(self) -> bool:
        """Returns True if artifacts are images. `seal` then needs a `source`, and a Dockerfile can replace its
        `command`.
        """
        ...

    async def prepare(self, workspace: Workspace, output: Output, stop: Stop) -> Outcome:
        """Creates what the steps need besides the checkout. The Outcome's `reason` says why that failed; it is empty on
        success.
        """
        ...

    async def run(self, workspace: Workspace, order: Order, output: Output, stop: Stop) -> Outcome:
        """Runs the commands and services of one step, and returns their Outcome, also if a command fails or a service
        does not become ready. Afterwards the step's reports are in the workspace's folder, with the modification times
        that the step gave them.
        """
        ...

    async def misfit(self, workspace: Workspace) -> str | None:
        """Returns what the steps left in the checkout that no artifact can hold, with the remedy, as a sentence without
        a full stop; None if they left nothing of the kind, or if the artifact is not made from what they left.
        """
        ...

    async def seal(self, workspace: Workspace, delivery: SealRequest, output: Output, stop: Stop) -> Artifact:
        """Makes and returns the artifact. Idempotent: equal commits give equal artifacts. Raises Unsealed if the commit
        cannot become one, and Stopped.
        """
        ...

    async def has(self, artifact: Artifact) -> bool:
        """Returns True if the artifact still exists unchanged. The call counts as a use, which postpones its
        deletion.
        """
        ...

    async def present(self) -> dict[str, str]:
        """Returns the versions of `python` and `node` with which all steps run, as far as they are there; empty if each
        step runs in an image."""
        ...

    async def exposed_ports(self, artifact: Artifact) -> list[int]:
        """Returns the TCP ports that the artifact says it listens on, sorted; empty if it says none."""
        ...

    async def images(self) -> Images | None:
        """Returns ref and digest of all sealed images; None if it builds no images or the engine does not answer."""
        ...

    async def end_leftovers(self, workspace: Workspace) -> int:
        """Ends the processes or containers of this workspace that a killed service left running; returns their
        number.
        """
        ...

    async def discard(self, workspace: Workspace) -> None:
        """Removes everything that was made for this workspace, except its artifact. Idempotent."""
        ...

    async def leavings(self) -> Leavings:
        """Returns the builds and apps of which objects other than artifacts exist, also from earlier runs of the
        service.
        """
        ...

    async def remove(self, leavings: Leavings) -> None:
        """Removes what `leavings` names: objects of builds, caches and images of apps. Idempotent."""
        ...

    async def check(self) -> str | None:
        """Returns why no step can run now, with the remedy, for `/ready`; None if steps can run. Takes at most 2 s."""
        ...
