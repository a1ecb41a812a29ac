"""Executors for tests, and what they leave behind."""

import asyncio
import atexit
import contextlib
import functools
import importlib
import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from services.build.executors.docker.container_step import container_side
from services.build.executors.docker.dockerfile import PYTHON
from services.build.executors.docker.image_builder import ImageBuilder, client_environment
from services.build.executors.executor import Executor, Workspace
from services.build.executors.process.executor import VIRTUALENV, ProcessExecutor, passed_on


@dataclass
class Case:
    """`living` tells what runs for a workspace, `kept` what beside its folder exists for it."""

    executor: Executor
    living: Callable[[Workspace], list[Any]]
    kept: Callable[[Workspace], list[Any]]


@functools.cache
def _virtualenv() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="slipway-virtualenv-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def share_virtualenv(caches: Path) -> None:
    """Gives the builds of a home what virtualenv made for another home of this process: to make it takes 2 s."""
    caches.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        (caches / VIRTUALENV).symlink_to(_virtualenv())


def workspace_in(folder: Path, number: int = 7) -> Workspace:
    (folder / "checkout").mkdir(parents=True)
    (folder / "scratch").mkdir()
    return Workspace(f"notes-{number}", "notes", "a" * 40, "dev", number, folder / "checkout", folder / "scratch")


class Printed:
    """Collects what is printed, and can be waited for."""

    def __init__(self) -> None:
        self.data = b""

    def __call__(self, data: bytes) -> None:
        self.data += data

    @property
    def lines(self) -> list[str]:
        """Without the commands."""
        return [line for line in self.data.decode().splitlines() if not line.startswith("$ ")]

    async def wait_for(self, text: bytes) -> None:
        async with asyncio.timeout(30):
            while text not in self.data:
                await asyncio.sleep(0.01)


def process_case(folder: Path) -> Case:
    def living(workspace: Workspace) -> list[int]:
        found = []
        for process in psutil.process_iter():
            try:
                if process.cwd() == str(workspace.folder) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process.pid)
            except psutil.Error:
                continue
        return found

    executor = ProcessExecutor(passed_on(os.environ), folder.parent / "cache", grace_s=0.2)
    return Case(executor, living, living)


@dataclass
class Engine:
    """The machine's engine; `stack` marks what a test makes on it."""

    client: Any
    stack: str = field(default_factory=lambda: f"test-{uuid.uuid4().hex[:8]}")

    def executor(self, **options: Any) -> Any:
        module = importlib.import_module("services.build.executors.docker.executor")
        variables = client_environment(os.environ)
        builder = ImageBuilder(variables, self.stack)
        return module.DockerExecutor(variables, builder, container_side(passed_on(os.environ)), self.stack, **options)

    def case(self) -> Case:
        def living(workspace: Workspace) -> list[str]:
            return self.containers(build=workspace.build)

        return Case(self.executor(), living, lambda workspace: living(workspace) + self.volumes(build=workspace.build))

    def containers(self, **labels: str) -> list[str]:
        return [container["Id"] for container in self.client.api.containers(all=True, filters=self._mine(labels))]

    def volumes(self, **labels: str) -> list[str]:
        return [volume.name for volume in self.client.volumes.list(filters=self._mine(labels))]

    def images(self) -> list[Any]:
        found: list[Any] = self.client.images.list(filters=self._mine({}))
        return found

    def clear(self, **labels: str) -> None:
        for container in self.containers(**labels):
            self.client.api.remove_container(container, force=True, v=True)
        for volume in self.volumes(**labels):
            self.client.api.remove_volume(volume, force=True)

    def clean(self) -> None:
        self.clear()
        for image in self.images():
            self.client.images.remove(image.id, force=True)
        self.client.close()

    def _mine(self, labels: dict[str, str]) -> dict[str, list[str]]:
        return {"label": [f"io.slipway.{key}={value}" for key, value in {"stack": self.stack, **labels}.items()]}


def found_engine() -> Iterator[Engine]:
    """Skips without an engine, its client or the image that steps run in; fails where that must not be."""
    try:
        subprocess.run(["docker", "image", "inspect", PYTHON], check=True, capture_output=True, text=True, timeout=30)
        docker = importlib.import_module("docker")
    except (OSError, subprocess.SubprocessError, ImportError) as error:
        reason = f"no Docker Engine with {PYTHON}: {getattr(error, 'stderr', None) or error}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    found = Engine(docker.from_env())
    try:
        yield found
    finally:
        found.clean()
