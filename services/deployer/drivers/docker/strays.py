"""Finds the running containers that carry the labels of an instance of this stack (this installation of the platform),
and removes one that should not run.
"""

import contextlib
import math

import docker
from docker.errors import NotFound

from services.deployer.drivers.docker.connection import unless_conflict
from services.deployer.drivers.docker.container import INSTANCE, RELEASE, Stack
from services.deployer.drivers.driver import RunningInstance


def running(client: docker.DockerClient, stack: Stack) -> list[RunningInstance]:
    """Returns the running containers with the labels of the stack's instances, by one request to the engine. A
    container whose name is not the one that `start` gives is marked as a copy.
    """
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
    """Stops the container with SIGTERM, and with SIGKILL after `grace_s` seconds, and removes it, because a restart
    policy could start it again with the engine. Does nothing if it has ended or is gone.
    """
    with contextlib.suppress(NotFound):
        container = client.containers.get(found.handle)
        if container.attrs["State"]["Running"]:
            container.stop(timeout=math.ceil(grace_s))
            with unless_conflict():  # the engine is removing it already
                container.remove(v=True)
