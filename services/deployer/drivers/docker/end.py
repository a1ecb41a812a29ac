"""Ends all containers in which instances of a stack (one installation of the platform) run."""

import time
from collections.abc import Mapping

from docker.errors import NotFound

from services.deployer.drivers.docker.connection import EngineConnection, engine_trouble, unless_conflict
from services.deployer.drivers.docker.container import Stack

POLL_S = 0.1
KILL_S = 5.0


def stop_containers(stack: Stack, environment: Mapping[str, str], timeout_s: float) -> int:
    """Sends SIGTERM to every instance of the stack, and SIGKILL to those that still run after `timeout_s` seconds.
    Returns the number of instances that were running. `environment` names the engine (`DOCKER_HOST` and similar
    variables). Raises DriverError.
    """
    connection = EngineConnection(environment)
    try:
        with engine_trouble("the app instances cannot be stopped"):
            running = _signalled(connection, stack, "SIGTERM")
            for wait_s, signal in ((timeout_s, "SIGKILL"), (KILL_S, None)):
                deadline = time.monotonic() + wait_s
                while (left := _running(connection, stack)) and time.monotonic() < deadline:
                    time.sleep(POLL_S)
                if left and signal:
                    _signalled(connection, stack, signal)
            return running
    finally:
        connection.close()


def _running(connection: EngineConnection, stack: Stack) -> list[str]:
    return [each["Id"] for each in connection.client().api.containers(filters={"label": stack.instances})]


def _signalled(connection: EngineConnection, stack: Stack, signal: str) -> int:
    """Sends the signal to the stack's running instances; returns how many got it."""
    running = _running(connection, stack)
    for container in running:
        with unless_conflict():
            try:
                connection.client().api.kill(container, signal)
            except NotFound:
                continue
    return len(running)
