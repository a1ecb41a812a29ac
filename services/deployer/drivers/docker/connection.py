"""Connects to a Docker Engine, and translates the errors of its client."""

import contextlib
import threading
from collections.abc import Iterator, Mapping
from http import HTTPStatus

import docker
from docker.errors import APIError, DockerException

from services.deployer.drivers.driver import DriverError, MachineShort, NoAnswer
from shared.host.docker_engine import ANY_VERSION, ASKED_S, no_answer
from shared.host.shortage import shortage

ANSWER_S = 20
ASKED_AT_ONCE = 32


class EngineConnection:
    """Holds the connection to the engine that `environment` names (`DOCKER_HOST` and similar variables)."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = dict(environment)
        self._connected: docker.DockerClient | None = None
        self._connecting = threading.Lock()

    def client(self) -> docker.DockerClient:
        """Returns the client. It is created at the first call, because the engine may start later than this process."""
        with self._connecting:
            if self._connected is None:
                self._connected = docker.from_env(
                    environment=self._environment, timeout=ANSWER_S, max_pool_size=ASKED_AT_ONCE
                )
                self._connected.api.trust_env = False  # the machine's proxy and CA settings do not apply to the engine
            return self._connected

    def ask(self) -> None:
        """Checks that the engine answers within 1 s, with a client of its own. Raises that client's error if it does
        not.
        """
        client = docker.from_env(environment=self._environment, timeout=ASKED_S, version=ANY_VERSION)
        client.api.trust_env = False
        try:
            client.version(api_version=False)
        finally:
            client.close()

    def close(self) -> None:
        if self._connected is not None:
            self._connected.close()
            self._connected = None


@contextlib.contextmanager
def engine_trouble(what: str) -> Iterator[None]:
    """Turns errors of the Docker client in a `with` block into DriverError, into MachineShort if the engine's disk is
    full, or into NoAnswer if the engine did not answer. `what` begins the message, for example "the containers cannot
    be listed".
    """
    try:
        yield
    except APIError as error:
        if (problem := shortage(error)) is not None and problem.status == HTTPStatus.INSUFFICIENT_STORAGE:
            raise MachineShort(f"{what}: {problem.detail}") from error
        raise DriverError(f"{what}: the Docker Engine says {error.explanation or error}") from error
    except (DockerException, OSError) as error:
        raise NoAnswer(f"{what}: {no_answer(error)}") from error


@contextlib.contextmanager
def unless_conflict() -> Iterator[None]:
    """Suppresses, in a `with` block, the error for the engine's answer 409: the container is in another state, or is
    already being removed.
    """
    try:
        yield
    except APIError as error:
        if error.status_code != 409:
            raise
