"""Asks the engine about a step's container. All functions block."""

from datetime import datetime

import docker
from docker.models.containers import Container

from services.build.executors.docker import container_files


def created_at(container: Container) -> datetime:
    """Returns the time at which the engine made the container: the modification time of its `/.dockerenv`."""
    chunks, status = container.get_archive("/.dockerenv")
    for _ in chunks:
        pass
    return container_files.moment((status or {})["mtime"])


def ran_out_of_memory(engine: docker.DockerClient, container: Container) -> bool:
    """Returns True if any process of the container was killed for lack of memory. Blocks for up to a second."""
    container.reload()
    state = container.attrs["State"]
    since, until = [int(container_files.moment(state[key]).timestamp()) for key in ("StartedAt", "FinishedAt")]
    events = engine.events(since=since, until=until + 1, filters={"container": container.id, "event": "oom"})
    return bool(state["OOMKilled"]) or bool(list(events))
