"""Builds an app's image by `docker buildx build`, because `RUN --mount` needs BuildKit."""

import asyncio
import os
import stat
import time
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

from services.build.executors.docker.base_images import PullRule, PullSchedule, base_images
from services.build.executors.docker.dockerfile import NAME, dockerfile
from services.build.executors.executor import SealRequest, Unsealed, Workspace
from services.build.system.command import kill, piped, start, wait_for_exit
from services.build.system.pipe import Output
from services.build.system.stop import Stop, Stopped
from shared.host.docker_engine import APP, OWN_TAG, STACK

TIMEOUT_S = 1800.0
PULL_TIMEOUT_S = 600.0
_PASSED_ON = {"PATH", "HOME", "TZ"}
_PASSED_ON_PREFIXES = ("DOCKER_", "BUILDX_")
_PROXY = "_PROXY"


def client_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Returns the variables of `environ` that the docker client needs."""
    return {
        name: value
        for name, value in environ.items()
        if name in _PASSED_ON or name.startswith(_PASSED_ON_PREFIXES) or name.upper().endswith(_PROXY)
    }


def image_tag(workspace: Workspace, stack: str) -> str:
    """Returns the tag of a commit's image. It holds the stack's name, because two stacks may share an engine."""
    return f"{OWN_TAG}{workspace.app}:{stack}-{workspace.commit}"


def image_labels(workspace: Workspace, delivery: SealRequest, stack: str) -> dict[str, str]:
    """Returns the labels of a commit's image: OCI's standard ones and the platform's own. None depends on the present
    time, so equal commits give equal images.
    """
    return {
        "org.opencontainers.image.created": delivery.committed_at.isoformat().replace("+00:00", "Z"),
        "org.opencontainers.image.revision": workspace.commit,
        "org.opencontainers.image.source": delivery.url,
        "org.opencontainers.image.title": workspace.app,
        "org.opencontainers.image.version": workspace.commit[:12],
        APP: workspace.app,
        STACK: stack,
    }


class ImageBuilder:
    """Builds the images of one stack by `docker buildx build`. `environment` is the result of
    `client_environment`; `pull` is the rule by which base images are pulled again that the engine has. Those that it
    lacks are always pulled, by the build itself.
    """

    def __init__(self, environment: Mapping[str, str], stack: str, pull: PullRule = "missing") -> None:
        self._environment = dict(environment)
        self._stack = stack
        self._pulls = PullSchedule(pull)

    async def build(self, workspace: Workspace, delivery: SealRequest, output: Output, stop: Stop) -> None:
        """Builds the commit's image and tags it. When stopped or cancelled, ends the docker client. Raises Unsealed if
        the commit cannot become an image, and Stopped.
        """
        command, text = await asyncio.to_thread(self._command, workspace, delivery, output)
        await self._pull(base_images(text), workspace, output, stop)
        epoch = str(int(delivery.committed_at.timestamp()))
        environment = {**self._environment, "SOURCE_DATE_EPOCH": epoch}
        if why := await _run(command, workspace.scratch, environment, TIMEOUT_S, output, stop):
            raise Unsealed(f"could not be built as an image: it {why}")

    async def _pull(self, names: Sequence[str], workspace: Workspace, output: Output, stop: Stop) -> None:
        """Pulls the base images that are due. A failure is a warning in the log: the build may have what it needs."""
        for name in self._pulls.due(names):
            output(f"pulling {name} again (SLIPWAY_PULL)\n".encode())
            command = ["docker", "pull", "--quiet", name]
            why = await _run(command, workspace.scratch, self._environment, PULL_TIMEOUT_S, output, stop)
            if why:
                output(f"warning: {name} could not be pulled ({why}); the build goes on with what is here\n".encode())
            self._pulls.tried(name, has_worked=not why)

    def _command(self, workspace: Workspace, delivery: SealRequest, output: Output) -> tuple[list[str], str]:
        """Returns the command that builds the image, and the Dockerfile's text."""
        workspace.scratch.mkdir(parents=True, exist_ok=True)
        # BuildKit remembers a context by its folder's name, and asks only for files of another size or date than it
        # has: under a name that was never there before it reads every file.
        source = workspace.scratch / uuid.uuid4().hex
        delivery.source.rename(source)
        path = source / NAME
        if path.is_file() and not path.is_symlink():
            text = path.read_bytes().decode(errors="replace")
        else:
            text = dockerfile(workspace.app, delivery.stages, delivery.command, delivery.volumes)
            path = workspace.scratch / NAME
            path.write_text(text)
            output(f"no {NAME}: this one follows from what was inferred\n{text}".encode())
        _settle(source, delivery.committed_at)
        labels = image_labels(workspace, delivery, self._stack)
        named = [part for key, value in sorted(labels.items()) for part in ("--label", f"{key}={value}")]
        options = [
            "--progress=plain",
            "--provenance=false",
            "--load",
            "--tag",
            image_tag(workspace, self._stack),
            *named,
        ]
        return ["docker", "buildx", "build", *options, "--file", str(path), str(source)], text


async def _run(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], timeout_s: float, output: Output, stop: Stop
) -> str:
    """Runs the docker client; returns why it failed, or an empty string. Ends it if it is stopped or cancelled, with
    its plug-in, which shares its session. Raises Stopped.
    """
    deadline = time.monotonic() + timeout_s
    async with piped(output) as end_of_pipe:
        process = start(command, folder, environment, end_of_pipe)
        try:
            reason = await wait_for_exit(process, deadline, timeout_s, stop)
        finally:
            await kill(process)
    if stop.is_set():
        raise Stopped
    return reason or (f"exited with {process.returncode}" if process.returncode else "")


def _settle(folder: Path, at: datetime) -> None:
    """Sets the time of all files to `at`, and their permissions independently of the service's umask, so that the same
    commit gives the same image layers."""
    for found, folders, files in os.walk(folder):
        for path in [Path(found, name) for name in [*folders, *files]]:
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or path.stat().st_mode & stat.S_IXUSR else 0o644)
            os.utime(path, (at.timestamp(), at.timestamp()), follow_symlinks=False)
