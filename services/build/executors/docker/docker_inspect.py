"""Asks the engine about the container of a step. All functions block."""

from datetime import datetime

import docker
from docker.models.containers import Container

from services.build.executors.docker import container_files


def created_at(container: Container) -> datetime:
    """Returns when the engine made the container, by the clock of its file system: the modification time of a file that
    the engine makes in every container."""
    chunks, status = container.get_archive("/.dockerenv")
    for _ in chunks:
        pass
    return container_files.moment((status or {})["mtime"])


def ran_out_of_memory(engine: docker.DockerClient, container: Container) -> bool:
    """Returns True if a process of the container was killed for its memory, also a child, which the container's own
    state does not tell on every engine. Waits for the next full second, for the engine's events are asked for by
    seconds."""
    container.reload()
    state = container.attrs["State"]
    since, until = [int(container_files.moment(state[key]).timestamp()) for key in ("StartedAt", "FinishedAt")]
    events = engine.events(since=since, until=until + 1, filters={"container": container.id, "event": "oom"})
    return bool(state["OOMKilled"]) or bool(list(events))
