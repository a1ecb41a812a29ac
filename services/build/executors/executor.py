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
    """Reports that a commit cannot become an artifact because of a fault in the commit. The message is worded to follow
    "the commit".
    """


BRANCH = "CI_COMMIT_BRANCH"  # environment variable with the branch's name

Images = frozenset[tuple[str, str]]  # (ref, digest) of artifacts


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
    """Describes a test service, such as a database, that runs while a step's commands run."""

    name: str
    image: str | None
    command: str | None
    environment: Mapping[str, str] = field(repr=False)
    port: int | None
    """Port on which a test service in a container listens. One that runs as a process gets a free port in the variable
    PORT.
    """
    ready: str | None
    """Command that succeeds once the test service is ready. If it is None, the service is ready when it listens on its
    port or when its image's HEALTHCHECK passes.
    """
    timeout_s: float
    """Seconds within which the test service must be ready."""

    def address(self, host: str, port: int | None) -> dict[str, str]:
        """Returns the variables with the test service's address for commands: `<NAME>_HOST`, and `<NAME>_PORT` if it
        has a port.
        """
        name = self.name.upper().replace("-", "_")
        return {f"{name}_HOST": host, **({f"{name}_PORT": str(port)} if port is not None else {})}


@dataclass(frozen=True)
class Order:
    """Describes the commands of one step. They run one after the other in the workspace's folder until one fails. The
    step's test services are ready before the first command and end after the last one.
    """

    commands: Sequence[str]
    timeout_s: float
    """Seconds that all commands together may take."""
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Additional variables for the commands; they override others of the same name. They never appear in a command
    line.
    """
    image: str | None = None
    """Image in which the commands run; if None, the executor's image of Python. The executor for processes ignores
    it.
    """
    reports: Sequence[str] = ()
    """Paths of the report files that the commands may write, relative to the workspace's folder; paths may be globs."""
    services: Sequence[ServiceOrder] = ()


@dataclass(frozen=True)
class Outcome:
    """Holds the result of a step, or of the preparation of a workspace. It is a success if `reason` is empty."""

    exit_code: int | None
    """Exit code of the last command; None if no command was started, or if a time limit or `stop` ended it."""
    reason: str = ""
    """Reason of the failure, worded to follow "the step" ("exited with 1"); empty on success."""
    skipped: int | None = None
    """Number of commands that were not run because an earlier one failed; None if unknown."""


@dataclass(frozen=True)
class SealRequest:
    """Holds what an executor needs to make the artifact of a commit that passed the gates."""

    source: Path
    """Fresh checkout of the commit, which no step has changed and which `seal` may move. It exists only if artifacts
    are images.
    """
    command: str | None
    """Command that runs the app; None if only the commit's Dockerfile names one."""
    committed_at: datetime
    url: str
    """URL of the repository."""
    volumes: Sequence[str] = ()
    """Paths of the app's volumes."""
    uses_python: bool = True
    """False if neither the run command nor a file of the commit names Python or pip."""
    stages: Sequence[LanguagePart] = ()
    """Inferred parts of the app, from which an image is built if the commit has no Dockerfile."""


@dataclass(frozen=True)
class ExecutorObjects:
    """Names the builds and apps for which an executor still holds objects other than artifacts."""

    builds: frozenset[str]
    """Ids of the builds that still have containers, networks or volumes."""
    apps: frozenset[str]
    """Names of the apps that have a cache."""


class Executor(Protocol):
    """Runs the steps of a build and makes its artifact. The caller calls `prepare` once, `run` for each step (also in
    parallel), `misfit` after all of them, `seal` if the build passed, and `discard` at the end in any case. `output`
    gets the printed bytes as they arrive. Each call ends all processes that it started before it returns, also when it
    times out, when `stop` is set and when it is cancelled.
    """

    @property
    def builds_images(self) -> bool:
        """Returns True if artifacts are images. An image is made from the checkout `SealRequest.source`; a Dockerfile
        there can replace `SealRequest.command`.
        """
        ...

    async def prepare(self, workspace: Workspace, output: Output, stop: Stop) -> Outcome:
        """Creates what the steps need besides the checkout. The `reason` of the Outcome is empty on success."""
        ...

    async def run(self, workspace: Workspace, order: Order, output: Output, stop: Stop) -> Outcome:
        """Runs the commands and test services of one step and returns their Outcome, also if a command fails or a
        service does not become ready. Afterwards the step's reports lie in the workspace's folder, with the
        modification times that the step gave them.
        """
        ...

    async def misfit(self, workspace: Workspace) -> str | None:
        """Returns a text if the steps left something in the checkout that an artifact cannot contain, such as a named
        pipe. The text names it with the remedy, as a sentence without a full stop. Returns None if they left nothing of
        this kind, or if the artifact is not made from the checkout that they left.
        """
        ...

    async def seal(self, workspace: Workspace, delivery: SealRequest, output: Output, stop: Stop) -> Artifact:
        """Makes the artifact of a commit that passed, as `delivery` describes it, and returns it. Idempotent; equal
        commits give equal images. Raises Unsealed if the commit cannot become an artifact, and Stopped once `stop` is
        set.
        """
        ...

    async def has(self, artifact: Artifact) -> bool:
        """Returns True if the artifact still exists unchanged. For an image, the call counts as a use, which postpones
        the image's deletion.
        """
        ...

    async def present(self) -> dict[str, str]:
        """Returns language → version of `python` and `node` on this machine, for those that are installed; empty if
        each step runs in an image of its own.
        """
        ...

    async def exposed_ports(self, artifact: Artifact) -> list[int]:
        """Returns the TCP ports on which the artifact declares that it listens, sorted; empty if it declares none."""
        ...

    async def images(self) -> Images | None:
        """Returns (tag, digest) of all images that are artifacts; None if artifacts are not images or the engine does
        not answer.
        """
        ...

    async def end_leftovers(self, workspace: Workspace) -> int:
        """Ends the processes or containers that this workspace still has because the service was killed; returns their
        number.
        """
        ...

    async def discard(self, workspace: Workspace) -> None:
        """Removes everything that was made for this workspace, except its artifact. Idempotent."""
        ...

    async def objects(self) -> ExecutorObjects:
        """Returns the builds and apps that still have objects other than artifacts, also those of earlier runs of the
        service.
        """
        ...

    async def remove(self, objects: ExecutorObjects) -> None:
        """Removes what `objects` names: containers, networks and volumes of builds, caches and images of apps.
        Idempotent.
        """
        ...

    async def check(self) -> str | None:
        """Returns the reason why no step can run now, with the remedy; None if steps can run. `GET /ready` shows it.
        Takes at most 2 s.
        """
        ...
