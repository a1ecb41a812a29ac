"""Runs a step's test services in containers, on a network of its own. All methods block."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import docker
from docker.errors import APIError
from docker.models.containers import Container
from docker.types import LogConfig

from services.build.executors.docker.container_service import is_checked, listens, port_of
from services.build.executors.docker.leftovers import remove_container, remove_network
from services.build.executors.docker.pull import GivenUp, NotStarted, image_named
from services.build.executors.executor import ServiceOrder

LOOK_AGAIN_S = 0.1
LINES_SHOWN = 20
PROCESSES = 4096
_LOGS = LogConfig(type="json-file", config={"max-size": "1m"})


class DockerServices:
    """Runs the test services of one step. `network` is the name of their network, None if the step has no test
    services; `addresses` holds the environment variables with their hosts and ports.
    """

    def __init__(
        self, engine: Callable[[], docker.DockerClient], name: str, labels: Mapping[str, str], memory_bytes: int
    ) -> None:
        self._engine = engine
        self._name = name
        self._labels = dict(labels)
        self._memory_bytes = memory_bytes
        self._containers: list[str] = []
        self.network: str | None = None
        self.addresses: dict[str, str] = {}

    def start(self, orders: Sequence[ServiceOrder], say: Callable[[bytes], None], given_up: threading.Event) -> None:
        """Starts the test services one after the other; each must be ready before the next one starts. `say` gets lines
        for the build's log. Raises NotStarted if one does not become ready, and GivenUp once `given_up` is set.
        """
        for order in orders:
            if self.network is None:
                self._engine().networks.create(self._name, driver="bridge", labels=self._labels)
                self.network = self._name
            self._start(order, say, given_up)

    def remove(self) -> None:
        """Removes the containers of the test services, and their network. Idempotent."""
        for container in self._containers:
            remove_container(self._engine(), container)
        if self.network is not None:
            remove_network(self._engine(), self.network)

    def _start(self, order: ServiceOrder, say: Callable[[bytes], None], given_up: threading.Event) -> None:
        image = image_named(self._engine(), order.image or "", say, given_up)
        port = port_of(order, image.attrs["Config"])
        container = self._engine().containers.create(
            image,
            entrypoint=["sh", "-c", order.command] if order.command else None,
            environment={**({"PORT": str(port)} if port else {}), **order.environment},
            labels=self._labels,
            hostname=order.name,
            network=self.network,
            networking_config={str(self.network): self._engine().api.create_endpoint_config(aliases=[order.name])},
            init=True,
            mem_limit=self._memory_bytes,
            memswap_limit=self._memory_bytes,
            pids_limit=PROCESSES,
            security_opt=["no-new-privileges"],
            log_config=_LOGS,
        )
        self._containers.append(str(container.id))
        try:
            container.start()
            self.addresses |= order.address(order.name, port)
            self._wait(order, container, image.attrs["Config"], port, given_up)
        except (APIError, NotStarted) as error:
            if given_up.is_set():
                raise GivenUp from error
            say(f"the last lines of the service {order.name}:\n".encode())
            say(container.logs(tail=LINES_SHOWN))
            raise NotStarted(f"the service {order.name} {error}") from error

    def _wait(
        self,
        order: ServiceOrder,
        container: Container,
        image: Mapping[str, Any],
        port: int | None,
        given_up: threading.Event,
    ) -> None:
        deadline = time.monotonic() + order.timeout_s
        while not given_up.wait(LOOK_AGAIN_S):
            container.reload()
            state = container.attrs["State"]
            if not state["Running"]:
                raise NotStarted(f"ended with {state['ExitCode']} before it was ready")
            if (lacks := self._lacks(order, container, image, port)) is None:
                return
            if time.monotonic() > deadline:
                raise NotStarted(f"was not ready within its time-out of {order.timeout_s:g} s: {lacks}")
        raise GivenUp

    def _lacks(
        self, order: ServiceOrder, container: Container, image: Mapping[str, Any], port: int | None
    ) -> str | None:
        """Returns the reason why the test service is not ready, or None if it is. `image` is the image's configuration;
        `port` is the service's port, None if neither the manifest nor the image names one. Raises NotStarted if there
        is no way to check the service.
        """
        if order.ready is not None:
            code, _ = container.exec_run(["sh", "-c", order.ready])
            return None if code == 0 else f"its `ready` command exits with {code}"
        if order.port is None and is_checked(image):
            health = container.attrs["State"].get("Health", {}).get("Status")
            return None if health == "healthy" else f"its image's HEALTHCHECK says {health}"
        if port is None:
            raise NotStarted("does not tell when it is ready; give it `ready: {port: …}`")
        # Not checked from here: this process may not be on the network, and a step's image may have no client.
        code, told = container.exec_run(["cat", "/proc/net/tcp", "/proc/net/tcp6"], user="0:0", stderr=False)
        if code in (126, 127):
            raise NotStarted("has an image without `cat`, by which its open ports are read; give it a HEALTHCHECK")
        table = told.decode(errors="replace") if isinstance(told, bytes) else ""
        return None if listens(table, port) else f"nothing listens on its port {port}"
