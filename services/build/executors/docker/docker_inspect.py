"""Asks the container engine whether it answers, and for facts about containers and images. All functions block."""

from collections.abc import Mapping
from datetime import datetime

import docker
from docker.models.containers import Container

from services.build.executors.docker import container_files
from shared.host.docker_engine import ANY_VERSION, ASKED_S


def ask(variables: Mapping[str, str]) -> None:
    """Asks the engine for its version, as a check that it answers. `variables` locate the engine (`DOCKER_HOST`).
    Raises DockerException or OSError if it does not answer.
    """
    engine = docker.from_env(environment=dict(variables), timeout=ASKED_S, version=ANY_VERSION)
    try:
        engine.version(api_version=False)
    finally:
        engine.close()


def created_at(container: Container) -> datetime:
    """Returns the time at which the engine made the container: the modification time of its `/.dockerenv`."""
    chunks, status = container.get_archive("/.dockerenv")
    for _ in chunks:
        pass
    return container_files.moment((status or {})["mtime"])


def ran_out_of_memory(engine: docker.DockerClient, container: Container) -> bool:
    """Returns True if a process of the ended container was killed because the container exceeded its memory limit.
    Blocks for up to a second.
    """
    container.reload()
    state = container.attrs["State"]
    since, until = [int(container_files.moment(state[key]).timestamp()) for key in ("StartedAt", "FinishedAt")]
    events = engine.events(since=since, until=until + 1, filters={"container": container.id, "event": "oom"})
    return bool(state["OOMKilled"]) or bool(list(events))


def exposed_ports(engine: docker.DockerClient, image: str) -> list[int]:
    """Returns the TCP ports that the image exposes, sorted. They come from EXPOSE in its Dockerfile or in that of a
    base image. Blocks.
    """
    exposed = engine.images.get(image).attrs["Config"].get("ExposedPorts") or {}
    return sorted(int(port) for port, _, kind in (each.partition("/") for each in exposed) if kind == "tcp")
