"""Runs steps in containers and makes images of commits that passed. Each step has a container of its own. A build has
two volumes (for its checkout and for HOME); an app has one (for the caches of pip and npm). All of these objects carry
labels with the name of the stack."""

import asyncio
import contextlib
import functools
import logging
import signal
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import docker
from docker.errors import DockerException, ImageNotFound
from docker.models.containers import Container
from docker.types import LogConfig

from services.build.executors.docker import container_files
from services.build.executors.docker.container_reports import copy_reports, step_arguments, text_of
from services.build.executors.docker.container_step import (
    CACHE,
    HOME,
    SKIPPED,
    WORKSPACE,
    exit_reason,
    step_environment,
)
from services.build.executors.docker.docker_inspect import ask, created_at, exposed_ports, ran_out_of_memory
from services.build.executors.docker.dockerfile import PYTHON
from services.build.executors.docker.image_builder import ImageBuilder, image_tag
from services.build.executors.docker.leftovers import GONE_TIMEOUT_S, Leftovers, remove_container
from services.build.executors.docker.output import read_to_end, threadsafe
from services.build.executors.docker.pull import NotStarted, image_named
from services.build.executors.docker.services import DockerServices
from services.build.executors.executor import ExecutorObjects, Images, Order, Outcome, SealRequest, Workspace
from services.build.reports import report_file
from services.build.system.command import uncancelled, wait_until_done
from services.build.system.pipe import Output
from services.build.system.safe_remove import remove
from services.build.system.stop import Stop
from services.build.system.thread_pool import ThreadPool
from shared.host.docker_engine import engine_check
from shared.host.shortage import shortage
from shared.manifest import MIB
from shared.models import Artifact

log = logging.getLogger(__name__)

MEMORY_BYTES = 2048 * MIB
PROCESSES = 4096
THREADS = 64  # at most two for each running step, and one for each removal or inspection
READY_TIMEOUT_S = 600.0  # time to pull an image, create a container and fill it
KILLED = 128 + signal.SIGKILL


@dataclass(frozen=True)
class _Ready:
    """Holds the container of a step, created but not started, and the stream `output` of what it will print."""

    container: Container
    output: Any
    created_at: datetime
    """Time of the container's creation by the engine's clock."""
    start: report_file.StepStart
    """The same moment by the clock of this machine's file system."""


class DockerExecutor:
    """Runs steps in containers. `variables` locate the engine (`DOCKER_HOST`); `environment` holds the variables that
    every step gets; `stack`, the name of this Slipway, is a label of its objects, as others may use the same engine."""

    builds_images = True

    def __init__(
        self,
        variables: Mapping[str, str],
        builder: ImageBuilder,
        environment: Mapping[str, str],
        stack: str,
        *,
        memory_bytes: int = MEMORY_BYTES,
        processes: int = PROCESSES,
    ) -> None:
        self._variables = dict(variables)
        self._builder = builder
        self._environment = dict(environment)
        self._stack = stack
        self._memory_bytes = memory_bytes
        self._processes = processes
        self._unfilled: dict[str, threading.Lock] = {}
        self._in_thread = ThreadPool(THREADS, "steps")
        self._leftovers = Leftovers(lambda: self._engine, stack)

    @functools.cached_property
    def _engine(self) -> docker.DockerClient:
        """Connects to the engine on first use, so that the service also starts without one."""
        return docker.from_env(environment=self._variables)

    async def prepare(self, workspace: Workspace, output: Output, stop: Stop) -> Outcome:
        """Creates the build's volumes, but no container. The first step's container fills one of them with the
        checkout; that of the first step whose image has Python makes `.venv`."""
        workspace.scratch.mkdir(parents=True, exist_ok=True)
        await self._in_thread(self._make_volumes, workspace)
        self._unfilled[self._name(workspace)] = threading.Lock()
        return Outcome(0)

    async def run(self, workspace: Workspace, order: Order, output: Output, stop: Stop) -> Outcome:
        given_up, say = threading.Event(), threadsafe(asyncio.get_running_loop(), output)
        services = self._services(workspace)
        making = self._in_thread(self._make_ready, workspace, order, services, say, given_up)
        reading: asyncio.Future[None] | None = None
        try:
            ready_s = READY_TIMEOUT_S + sum(service.timeout_s for service in order.services)
            if reason := await wait_until_done(making, time.monotonic() + ready_s, ready_s, stop):
                return Outcome(None, reason)
            ready = making.result()
            reading = self._in_thread(read_to_end, ready.output, say)
            deadline = time.monotonic() + order.timeout_s
            await self._in_thread(ready.container.start)
            if reason := await wait_until_done(reading, deadline, order.timeout_s, stop):
                return Outcome(None, reason)
            return await self._in_thread(self._ended, workspace, order, ready)
        except NotStarted as error:
            return Outcome(None, f"could not be started: {error}")
        finally:
            given_up.set()
            await uncancelled(self._clear_away(making, reading, services))

    async def misfit(self, workspace: Workspace) -> str | None:
        return None

    async def seal(self, workspace: Workspace, delivery: SealRequest, output: Output, stop: Stop) -> Artifact:
        await self._builder.build(workspace, delivery, output, stop)
        return await self._in_thread(self._sealed, image_tag(workspace, self._stack))

    async def has(self, artifact: Artifact) -> bool:
        with contextlib.suppress(ImageNotFound):
            return await self._in_thread(self._sealed, artifact.ref) == artifact
        return False

    async def present(self) -> dict[str, str]:
        return {}

    async def exposed_ports(self, artifact: Artifact) -> list[int]:
        return await self._in_thread(exposed_ports, self._engine, artifact.digest)

    async def images(self) -> Images | None:
        with contextlib.suppress(DockerException, OSError):
            return await self._in_thread(self._leftovers.images)
        return None

    async def end_leftovers(self, workspace: Workspace) -> int:
        return await self._in_thread(self._remove_all, workspace)

    async def discard(self, workspace: Workspace) -> None:
        """Removes the workspace's folders and, if the engine answers, its containers and volumes."""
        for folder in (workspace.scratch, workspace.folder):
            await self._in_thread(remove, folder)
        try:
            await self._in_thread(self._remove_all, workspace)
        except (DockerException, OSError) as error:
            log.warning("volumes of %s stay on the engine: %s", workspace.build, error)

    async def objects(self) -> ExecutorObjects:
        return await self._in_thread(self._leftovers.all)

    async def remove(self, objects: ExecutorObjects) -> None:
        await self._in_thread(self._leftovers.remove_these, objects)

    async def check(self) -> str | None:
        return await engine_check(lambda: ask(self._variables))

    # --- the methods below block and are called in threads

    def _sealed(self, tag: str) -> Artifact:
        """Returns the image `tag` as an artifact. Tags it again, because images are deleted by their tag's age."""
        image = self._engine.images.get(tag)
        image.tag(*tag.rsplit(":", 1))
        return Artifact(kind="image", ref=tag, digest=str(image.id))

    def _make_volumes(self, workspace: Workspace) -> None:
        of_build = self._leftovers.of_build(workspace.app, workspace.build)
        for name, labels in (
            (self._name(workspace), of_build),
            (f"{self._name(workspace)}-home", of_build),
            (self._cache(workspace), self._leftovers.of_cache(workspace.app)),
        ):
            self._engine.volumes.create(name, labels=labels)

    def _make_ready(
        self,
        workspace: Workspace,
        order: Order,
        services: DockerServices,
        say: Callable[[bytes], None],
        given_up: threading.Event,
    ) -> _Ready:
        image = image_named(self._engine, order.image or PYTHON, say, given_up)
        services.start(order.services, say, given_up)
        name = self._name(workspace)
        container = self._engine.containers.create(
            image,
            step_arguments(str(image.id), order.reports, order.commands),
            entrypoint=["sh"],
            user="0:0",  # steps install packages, and the files in the volume belong to root
            init=True,
            working_dir=WORKSPACE,
            environment={
                **step_environment(workspace, self._environment, image.attrs["Config"]),
                **services.addresses,
                **order.environment,
            },
            network=services.network,
            labels=self._leftovers.of_build(workspace.app, workspace.build),
            volumes=[f"{name}:{WORKSPACE}", f"{name}-home:{HOME}", f"{self._cache(workspace)}:{CACHE}"],
            mem_limit=self._memory_bytes,
            memswap_limit=self._memory_bytes,
            pids_limit=self._processes,
            security_opt=["no-new-privileges"],
            log_config=LogConfig(type="none"),  # output is read from the attached socket, so no log is needed
        )
        try:
            self._fill(workspace, container)
            # Attached before the start, so that no output is lost; `logs` loses lines of a fast step.
            attached = container.attach_socket(params={"stdout": 1, "stderr": 1, "stream": 1})
            start = report_file.begin(workspace.scratch)
            return _Ready(container, attached, created_at(container), start)
        except BaseException:
            remove_container(self._engine, str(container.id))
            raise

    def _fill(self, workspace: Workspace, container: Container) -> None:
        """Copies the checkout into the build's volume, once; other steps wait for that. Raises NotStarted, OSError."""
        name = self._name(workspace)
        with self._unfilled.get(name) or contextlib.nullcontext():
            if name not in self._unfilled:
                return
            with tempfile.TemporaryFile(dir=workspace.scratch.parent) as archive:
                try:
                    container_files.pack(workspace.folder, archive)
                except OSError as error:
                    if shortage(error) is None:
                        raise NotStarted(str(error.strerror)) from error
                    raise
                container.put_archive(WORKSPACE, archive)
            self._unfilled.pop(name)

    def _services(self, workspace: Workspace) -> DockerServices:
        labels = self._leftovers.of_build(workspace.app, workspace.build)
        name = f"{self._name(workspace)}-{uuid.uuid4().hex[:8]}"
        return DockerServices(lambda: self._engine, name, labels, self._memory_bytes)

    def _ended(self, workspace: Workspace, order: Order, ready: _Ready) -> Outcome:
        code = int(ready.container.wait(timeout=GONE_TIMEOUT_S)["StatusCode"])
        too_many = copy_reports(ready.container, order.reports, workspace.folder, ready.created_at, ready.start)
        if too_many:
            return Outcome(None, too_many)
        too_much = code == KILLED and ran_out_of_memory(self._engine, ready.container)
        reason = exit_reason(code, self._memory_bytes if too_much else None)
        return Outcome(code, reason, self._skipped(ready.container) if code else 0)

    def _skipped(self, container: Container) -> int | None:
        """Returns the number of commands that were not run because an earlier one failed; None if it is unknown."""
        with contextlib.suppress(ValueError):
            return int(text_of(container, SKIPPED))
        return None

    async def _clear_away(
        self, making: "asyncio.Future[_Ready]", reading: "asyncio.Future[None] | None", services: DockerServices
    ) -> None:
        """Removes the containers of a step and of its test services; returns when they are gone and all output was
        passed on. If the step's container is not yet made, removing the services also ends the wait for them."""
        if not making.done():
            await self._in_thread(services.remove)
        await asyncio.wait({making})
        if making.exception() is None:
            ready = making.result()
            await self._in_thread(remove_container, self._engine, str(ready.container.id))
            if reading is not None:
                await asyncio.wait({reading}, timeout=GONE_TIMEOUT_S)
            # The stream's own `close` forgets the socket once the engine has closed its end.
            ready.output._response.close()
        await self._in_thread(services.remove)

    def _remove_all(self, workspace: Workspace) -> int:
        removed = self._leftovers.remove(workspace.build)
        self._unfilled.pop(self._name(workspace), None)
        return removed

    def _name(self, workspace: Workspace) -> str:
        return f"slipway-{self._stack}-{workspace.build}"

    def _cache(self, workspace: Workspace) -> str:
        return f"slipway-{self._stack}-cache-{workspace.app}"
