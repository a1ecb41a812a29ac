"""Gives tests, benchmarks and the demo a handle on a stack in containers, with a project and ports of its own."""

import contextlib
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from shared.config import SharedSettings
from shared.host import docker_engine
from stack.clients.mail_sink import MailSink, mail_sink
from stack.compose import engine
from stack.compose.compose import SOCKET
from stack.compose.engine import docker
from stack.local.local_stack import LocalStack, environment, settings_on_free_ports
from stack.local.programs import ROOT

FIRST_BUILD_S = 900


class ComposeStack(LocalStack):
    """Represents a running project of docker-compose.yml. `settings` hold the addresses by which this machine reaches
    it.
    """

    def __init__(self, settings: SharedSettings, project: str) -> None:
        super().__init__(settings)
        self.project = project

    def container(self, program: str) -> str:
        """Returns the name of the container of `redis`, `keeper`, `envoy` or a service."""
        return f"{self.project}-{program}-1"

    def pid(self, program: str) -> int:
        """Returns the id, on this machine, of the container's main process; 0 if the container is not running."""
        return int(docker("inspect", "--format", "{{.State.Pid}}", self.container(program)))

    @contextlib.contextmanager
    def kept_down(self, program: str) -> Iterator[None]:
        """Stops the container with `docker kill`, after which the engine does not restart it; starts it at the end of
        the block.
        """
        docker("kill", self.container(program))
        try:
            yield
        finally:
            docker("start", self.container(program))

    def _start(self, program: str) -> None:
        docker("start", self.container(program))


@contextlib.contextmanager
def compose_stack(home: Path, variables: Mapping[str, str] = MappingProxyType({})) -> Iterator[ComposeStack]:
    """Runs `make up` as a project of its own on free ports. At the end of the block runs `make down` and removes
    everything of the project from the engine. `variables` are additional lines of its `.env`.
    """
    settings = settings_on_free_ports(home)
    project = f"slipway-test-{uuid.uuid4().hex[:8]}"
    home.mkdir(parents=True, exist_ok=True)
    own = {name: value for name, value in environment(settings).items() if name.endswith("_PORT") and value != "0"}
    own |= {
        "COMPOSE_PROJECT_NAME": project,
        "SLIPWAY_NETWORK": project,
        "SLIPWAY_PUBLIC_ADDRESS": "127.0.0.1",
        "SLIPWAY_ALLOW_ADDRESSES": settings.allow_addresses,
        **variables,
    }
    group = SOCKET.stat().st_gid
    env_file = home / "env"
    env_file.write_text("".join(f"{name}={value}\n" for name, value in {**own, "DOCKER_GID": group}.items()))
    try:
        command(home, "up", timeout_s=FIRST_BUILD_S)
        yield ComposeStack(settings, project)
    finally:
        command(home, "down", timeout_s=120)
        engine.remove_made(f"com.docker.compose.project={project}")
        engine.remove_made(f"{docker_engine.STACK}={project}")
        engine.remove_images(f"{docker_engine.STACK}={project}")


@contextlib.contextmanager
def mail_sink_for(stack: LocalStack) -> Iterator[MailSink]:
    """Runs a mail server on this machine that the stack's monitor can reach."""
    if not stack.in_containers():
        with mail_sink() as sink:
            yield sink
        return
    gateway = docker("network", "inspect", "bridge", "--format", "{{(index .IPAM.Config 0).Gateway}}")
    with mail_sink(gateway, "host.docker.internal") as sink:
        yield sink


def command(home: Path, what: str, timeout_s: float) -> str:
    """Runs `make up` or `make down` for the stack in `home`, and returns its output. Raises RuntimeError with that
    output.
    """
    variables = {name: value for name, value in os.environ.items() if not name.startswith("SLIPWAY_")}
    done = subprocess.run(
        [sys.executable, "-m", "stack.compose", what],
        cwd=ROOT,
        env={**variables, "SLIPWAY_ENV_FILE": str(home / "env"), "SLIPWAY_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        raise RuntimeError(f"{what} exited with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout
