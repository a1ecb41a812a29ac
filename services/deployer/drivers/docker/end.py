"""How the containers of a whole stack are ended."""

import time
from collections.abc import Mapping

from docker.errors import NotFound

from services.deployer.drivers.docker.connection import EngineConnection, engine_trouble, unless_conflict
from services.deployer.drivers.docker.container import Stack

LOOK_S = 0.1
KILL_S = 5.0


def stop_containers(stack: Stack, environment: Mapping[str, str], timeout_s: float) -> int:
    """SIGTERM to every instance of the stack, SIGKILL to what is left after `timeout_s` seconds; returns how many ran.
    Raises DriverError. `environment`: where the engine is.
    """
    connection = EngineConnection(environment)
    try:
        with engine_trouble("the app instances cannot be stopped"):
            running = _signalled(connection, stack, "SIGTERM")
            for wait_s, signal in ((timeout_s, "SIGKILL"), (KILL_S, None)):
                deadline = time.monotonic() + wait_s
                while (left := _running(connection, stack)) and time.monotonic() < deadline:
                    time.sleep(LOOK_S)
                if left and signal:
                    _signalled(connection, stack, signal)
            return running
    finally:
        connection.close()


def _running(connection: EngineConnection, stack: Stack) -> list[str]:
    return [each["Id"] for each in connection.client().api.containers(filters={"label": stack.instances})]


def _signalled(connection: EngineConnection, stack: Stack, signal: str) -> int:
    """How many; what has ended meanwhile is a conflict, or gone."""
    running = _running(connection, stack)
    for container in running:
        with unless_conflict():
            try:
                connection.client().api.kill(container, signal)
            except NotFound:
                continue
    return len(running)
