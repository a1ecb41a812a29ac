"""Finds the running containers that have a stack's marks of an instance, and ends those that should not run."""

import contextlib
import math

import docker
from docker.errors import NotFound

from services.deployer.drivers.docker.connection import unless_conflict
from services.deployer.drivers.docker.container import INSTANCE, RELEASE, Stack
from services.deployer.drivers.driver import RunningInstance


def running(client: docker.DockerClient, stack: Stack) -> list[RunningInstance]:
    """Returns the running containers with the labels of the stack's instances, by one call of the engine. One with
    another name than `start` gives is marked as a copy."""
    listed = client.api.containers(filters={"label": stack.instances})
    return [
        RunningInstance(
            handle=each["Id"],
            id=each["Labels"][INSTANCE],
            release=each["Labels"].get(RELEASE, ""),
            artifact=each["ImageID"],
            is_copy=f"/{stack.container_name(each['Labels'][INSTANCE])}" not in each["Names"],
        )
        for each in listed
    ]


def remove(client: docker.DockerClient, found: RunningInstance, grace_s: float) -> None:
    """Stops the container, if it runs, by SIGTERM and after `grace_s` seconds by SIGKILL, and removes it: with a
    restart policy it would be back after the engine's next start. Does nothing if it has ended or is gone."""
    with contextlib.suppress(NotFound):
        container = client.containers.get(found.handle)
        if container.attrs["State"]["Running"]:
            container.stop(timeout=math.ceil(grace_s))
            with unless_conflict():  # it is being removed already
                container.remove(v=True)
