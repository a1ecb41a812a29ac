"""Builds an app's image with `docker buildx build`: the generated Dockerfiles use `RUN --mount`, which needs
BuildKit.
"""

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
    """Returns the tag of a commit's image. It contains the stack's name, because two stacks may share an engine."""
    return f"{OWN_TAG}{workspace.app}:{stack}-{workspace.commit}"


def image_labels(workspace: Workspace, delivery: SealRequest, stack: str) -> dict[str, str]:
    """Returns the labels of a commit's image: the standard ones of OCI and the platform's own. None depends on the
    current time, so that equal commits give equal images.
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
    """Builds the images of one stack with `docker buildx build`. `environment` is the result of `client_environment`;
    `pull` (`missing`, `daily` or `always`) says when base images that the engine already has are pulled again. Base
    images that it lacks are always pulled.
    """

    def __init__(self, environment: Mapping[str, str], stack: str, pull: PullRule = "missing") -> None:
        self._environment = dict(environment)
        self._stack = stack
        self._pulls = PullSchedule(pull)

    async def build(self, workspace: Workspace, delivery: SealRequest, output: Output, stop: Stop) -> None:
        """Builds the commit's image and tags it. Raises Unsealed if the commit cannot become an image, and Stopped once
        `stop` is set. When stopped or cancelled, it first ends the docker client.
        """
        command, text = await asyncio.to_thread(self._command, workspace, delivery, output)
        await self._pull(base_images(text), workspace, output, stop)
        epoch = str(int(delivery.committed_at.timestamp()))
        environment = {**self._environment, "SOURCE_DATE_EPOCH": epoch}
        if why := await _run(command, workspace.scratch, environment, TIMEOUT_S, output, stop):
            raise Unsealed(f"could not be built as an image: it {why}")

    async def _pull(self, names: Sequence[str], workspace: Workspace, output: Output, stop: Stop) -> None:
        """Pulls those of the base images `names` that are due for a pull. A failed pull is a warning in the build's
        log, and the build goes on, since the engine may have the image. Raises Stopped once `stop` is set.
        """
        for name in self._pulls.due(names):
            output(f"pulling {name} again (SLIPWAY_PULL)\n".encode())
            command = ["docker", "pull", "--quiet", name]
            why = await _run(command, workspace.scratch, self._environment, PULL_TIMEOUT_S, output, stop)
            if why:
                output(f"warning: {name} could not be pulled ({why}); the build goes on with what is here\n".encode())
            self._pulls.tried(name, has_worked=not why)

    def _command(self, workspace: Workspace, delivery: SealRequest, output: Output) -> tuple[list[str], str]:
        """Moves the checkout into a folder for the build of the image; returns the command that builds it, and the text
        of the Dockerfile that it uses.
        """
        workspace.scratch.mkdir(parents=True, exist_ok=True)
        # BuildKit identifies a context by its folder's name, and reads only files whose size or date has changed.
        # Under a new name, it reads every file.
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
    """Runs `command`, a call of the docker client; returns the reason of its failure, or an empty text. Raises Stopped
    once `stop` is set. When stopped, cancelled or past the time limit, it ends the client with its plug-ins.
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
    """Sets the modification time of all files below `folder` to `at`, and permissions that do not depend on the
    service's umask, so that equal commits give equal image layers.
    """
    for found, folders, files in os.walk(folder):
        for path in [Path(found, name) for name in [*folders, *files]]:
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or path.stat().st_mode & stat.S_IXUSR else 0o644)
            os.utime(path, (at.timestamp(), at.timestamp()), follow_symlinks=False)
