"""Runs instances as containers of a Docker Engine, on the platform's own network and without published ports."""

import asyncio
import contextlib
import logging
import re
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path

import docker
from docker.errors import APIError, ImageNotFound, NotFound
from docker.models.containers import Container

from services.deployer.drivers.docker import network, strays
from services.deployer.drivers.docker import volume as volumes
from services.deployer.drivers.docker.capabilities import ROOT_KEEPS, starts_as_root
from services.deployer.drivers.docker.connection import EngineConnection, engine_trouble, unless_conflict
from services.deployer.drivers.docker.container import (
    INSTANCE,
    Stack,
    creation,
    engine_start,
    has_started,
    memory_limit,
    status_of,
)
from services.deployer.drivers.docker.container_usage import ContainerUsage, listening_in
from services.deployer.drivers.docker.events import Deaths, EngineEventFollower, Stream, with_late_kill
from services.deployer.drivers.docker.images import remove_unneeded
from services.deployer.drivers.driver import (
    ArtifactGone,
    DriverError,
    InstanceSpec,
    InstanceStatus,
    RunningInstance,
    UnknownInstance,
    Usage,
)
from services.deployer.drivers.memory_use import check_limit, check_machine
from services.deployer.drivers.uncancellable import uncancellable
from shared.clock import now
from shared.host.docker_engine import STACK, engine_check
from shared.models import Artifact

log = logging.getLogger(__name__)

POLL_S = 0.05
ADDRESSES_TRIED = 5


class DockerDriver:
    """Implements `Driver` for artifacts that are images. All state is in labels of containers on the engine that
    `environment` names (`DOCKER_HOST` and similar variables). `platform_stopped_at` returns when the platform was last
    stopped. `root_keeps` holds the Linux capabilities of containers whose image starts as root; other containers have
    none."""

    def __init__(
        self,
        stack: Stack,
        environment: Mapping[str, str],
        host_cgroups: Path,
        platform_stopped_at: Callable[[], datetime | None] = lambda: None,
        root_keeps: Sequence[str] = ROOT_KEEPS,
    ) -> None:
        self._stack = stack
        self._connection = EngineConnection(environment)
        self._platform_stopped_at = platform_stopped_at
        self._root_keeps = root_keeps
        self._deaths = Deaths()
        self._usage = ContainerUsage(self._connection, stack, host_cgroups, self._deaths)
        self._starting = threading.Lock()  # held from the check whether a container exists until it has started

    async def preflight(self, spec: InstanceSpec) -> None:
        await asyncio.to_thread(self._preflight, spec)

    async def start(self, spec: InstanceSpec) -> InstanceStatus:
        return await uncancellable(asyncio.to_thread(self._start, spec))

    async def stop(self, instance_id: str, grace_s: float) -> None:
        deadline = time.monotonic() + grace_s
        await asyncio.to_thread(self._signal, instance_id, "SIGTERM")
        while await asyncio.to_thread(self._runs, instance_id):
            if time.monotonic() >= deadline:
                await asyncio.to_thread(self._signal, instance_id, "SIGKILL")
            await asyncio.sleep(POLL_S)

    async def statuses(self, instance_ids: Iterable[str] | None = None) -> dict[str, InstanceStatus]:
        ids = None if instance_ids is None else list(instance_ids)
        return {} if ids == [] else await asyncio.to_thread(self._statuses, ids)

    async def running(self) -> list[RunningInstance]:
        return await asyncio.to_thread(self._running)

    async def remove(self, found: RunningInstance, grace_s: float) -> None:
        await uncancellable(asyncio.to_thread(self._remove, found, grace_s))

    async def logs(self, instance_id: str, lines: int) -> list[str]:
        return await asyncio.to_thread(self._logs, instance_id, lines)

    async def listening(self, instance_id: str) -> list[str] | None:
        return await asyncio.to_thread(lambda: listening_in(self._find(instance_id)))

    async def usage(self, instance_ids: Iterable[str]) -> dict[str, Usage]:
        return await asyncio.to_thread(self._usage.of, set(instance_ids))

    async def set_memory(self, instance_id: str, memory: int) -> None:
        await uncancellable(asyncio.to_thread(self._set_memory, instance_id, memory))

    async def enforce(self) -> None:
        """Does nothing, because the kernel enforces the memory limits of containers."""

    async def forget(self, instance_id: str) -> None:
        await uncancellable(asyncio.to_thread(self._forget, instance_id))

    async def verify(self, artifact: Artifact) -> None:
        """Raises ArtifactGone if the image is missing. It cannot have changed, since images are started by their id."""
        await asyncio.to_thread(self._verify, artifact)

    async def collect_garbage(self, needed: Collection[Artifact]) -> None:
        """Removes images that are not in `needed`. It leaves logs alone, because the engine limits their size."""
        if images := {artifact.digest for artifact in needed if artifact.kind == "image"}:
            await uncancellable(asyncio.to_thread(self._remove_images, images))

    async def check(self) -> str | None:
        return await engine_check(self._connection.ask)

    @contextlib.contextmanager
    def watching_ends(self, on_end: Callable[[str | None], None]) -> Iterator[None]:
        follower = EngineEventFollower(self._events, self._deaths, on_end, time.time_ns)
        follower.start()
        try:
            yield
        finally:
            follower.close()

    def close(self) -> None:
        """Closes the connections to the engine; instances go on running."""
        self._connection.close()

    def _client(self) -> docker.DockerClient:
        return self._connection.client()

    def _events(self) -> Stream:
        filters = {"type": "container", "event": ["die", "oom"], "label": self._stack.instances}
        stream: Stream = self._client().events(decode=True, filters=filters)
        return stream

    def _find(self, instance_id: str) -> Container | None:
        """Returns the instance's container, started or not; None if there is none with this stack's labels."""
        try:
            container = self._client().containers.get(self._stack.container_name(instance_id))
        except NotFound:
            return None
        is_own = (container.labels.get(STACK), container.labels.get(INSTANCE)) == (self._stack.id, instance_id)
        return container if is_own else None

    def _started(self, instance_id: str) -> Container:
        container = self._find(instance_id)
        if container is None or not has_started(container.attrs):
            raise UnknownInstance(f"no container was started for {instance_id}")
        return container

    def _preflight(self, spec: InstanceSpec) -> None:
        self._verify(spec.artifact)
        with engine_trouble(f"{spec.id} cannot be started"):
            check_machine(spec, self._usage.machine())
            for volume in spec.volumes:
                volumes.check(self._client().volumes, self._stack, volume)

    def _start(self, spec: InstanceSpec) -> InstanceStatus:
        if spec.artifact.kind != "image":
            raise ArtifactGone(f"containers run from an image, not from a {spec.artifact.kind}")
        with self._starting, engine_trouble(f"{spec.id} cannot be started"):
            check_machine(spec, self._usage.machine())
            container = self._find(spec.id)
            if container is not None and not self._status(container, None).is_of(spec.release, spec.artifact):
                log.warning("the container of %s is another release's or image's and is removed", spec.id)
                container.remove(v=True, force=True)
                container = None
            if container is None:
                for volume in spec.volumes:
                    volumes.make(self._client().volumes, self._stack, volume)
                container = self._create(spec)
            if not has_started(container.attrs):
                container = self._begin(container, spec)
            return self._status(container, None if container.attrs["State"]["Running"] else self._shut_down_until())

    def _begin(self, container: Container, spec: InstanceSpec) -> Container:
        """Starts the container and returns it; if its address is taken, replaces it by one with another address."""
        for _ in range(ADDRESSES_TRIED):
            try:
                container.start()
            except APIError as error:
                if not network.is_taken(error):
                    raise
                container.remove(v=True)
                container = self._create(spec)
            else:
                container.reload()
                return container
        raise DriverError(f"{spec.id}: other containers took each of its addresses first; release again")

    def _create(self, spec: InstanceSpec) -> Container:
        address = network.address(self._client(), self._stack)
        try:
            image = self._client().images.get(spec.artifact.digest)
            capabilities = self._root_keeps if starts_as_root(image.attrs) else ()
            return self._client().containers.create(**creation(spec, self._stack, capabilities), **address)
        except ImageNotFound as error:
            raise ArtifactGone(f"the engine has no image {spec.artifact.ref} as it was built") from error
        except APIError as error:
            if error.status_code != 409:
                raise
            name = self._stack.container_name(spec.id)
            raise DriverError(
                f"{spec.id}: a container that is not Slipway's has the name {name}; remove it (docker rm -f {name}) "
                "and release again"
            ) from error

    def _verify(self, artifact: Artifact) -> None:
        if artifact.kind != "image":
            raise ArtifactGone(f"containers run from an image, not from a {artifact.kind}")
        with engine_trouble(f"the image {artifact.ref} cannot be inspected"):
            try:
                self._client().images.get(artifact.digest)
            except ImageNotFound as error:
                raise ArtifactGone(f"the engine has no image {artifact.ref} as it was built") from error

    def _remove_images(self, needed: Collection[str]) -> None:
        with engine_trouble("old images cannot be removed"):
            remove_unneeded(self._client(), self._stack, needed, now())

    def _own(self, ids: Iterable[str] | None) -> list[Container]:
        """Returns the containers of the stack's instances, or only of those in `ids`. Leaves out copies by others."""
        filters: dict[str, str | list[str] | bool] = {"label": self._stack.instances}
        if ids is not None:
            filters["name"] = [f"^/?{re.escape(self._stack.container_name(each))}$" for each in ids]
        found = self._client().containers.list(all=True, filters=filters, ignore_removed=True)
        return [each for each in found if each.name == self._stack.container_name(each.labels[INSTANCE])]

    def _statuses(self, ids: list[str] | None) -> dict[str, InstanceStatus]:
        with engine_trouble("the containers cannot be listed"):
            containers = [with_late_kill(each, now()) for each in self._own(ids) if has_started(each.attrs)]
            ended = any(not each.attrs["State"]["Running"] for each in containers)
            shut_down_until = self._shut_down_until() if ended else None
        return {each.labels[INSTANCE]: self._status(each, shut_down_until) for each in containers}

    def _status(self, container: Container, shut_down_until: datetime | None) -> InstanceStatus:
        kills, was_oom = self._deaths.kills(container.id or ""), self._deaths.was_oom(container.id or "")
        return status_of(container.attrs, self._stack.network, shut_down_until, kills, was_oom)

    def _shut_down_until(self) -> datetime | None:
        started = engine_start(each.attrs for each in self._client().networks.list(names=["bridge"]))
        return max((each for each in (started, self._platform_stopped_at()) if each), default=None)

    def _signal(self, instance_id: str, signal: str) -> None:
        """Sends the signal to the instance unless it has ended. Raises UnknownInstance if it has no container."""
        with engine_trouble(f"{instance_id} cannot be stopped"):
            container = self._started(instance_id)
            if container.attrs["State"]["Running"]:
                with unless_conflict():
                    container.kill(signal)

    def _runs(self, instance_id: str) -> bool:
        with engine_trouble(f"{instance_id} cannot be inspected"):
            container = self._find(instance_id)
            return container is not None and bool(container.attrs["State"]["Running"])

    def _running(self) -> list[RunningInstance]:
        with engine_trouble("the containers cannot be listed"):
            return strays.running(self._client(), self._stack)

    def _remove(self, found: RunningInstance, grace_s: float) -> None:
        with engine_trouble(f"{found.id} cannot be removed"):
            strays.remove(self._client(), found, grace_s)

    def _logs(self, instance_id: str, lines: int) -> list[str]:
        with engine_trouble(f"the log of {instance_id} cannot be read"):
            text = self._started(instance_id).logs(tail=lines).decode(errors="replace")
        return text.removesuffix("\n").split("\n") if text else []

    def _set_memory(self, instance_id: str, memory: int) -> None:
        with engine_trouble(f"the memory limit of {instance_id} cannot be changed"):
            container = self._started(instance_id)
            if (use := self._usage.use(container)) is None:
                raise DriverError(f"{instance_id} does not run")
            check_limit(instance_id, memory_limit(container.attrs), memory, use[0].working_set, self._usage.machine())
            container.update(mem_limit=memory, memswap_limit=memory)

    def _forget(self, instance_id: str) -> None:
        with engine_trouble(f"{instance_id} cannot be removed"), contextlib.suppress(NotFound):
            container = self._find(instance_id)
            if container is None:
                return
            if container.attrs["State"]["Running"]:
                raise DriverError(f"{instance_id} runs; stop it first")
            container.remove(v=True)
