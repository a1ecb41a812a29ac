"""Calls the Docker Engine with the command `docker`."""

import os
import subprocess
import time
from collections.abc import Mapping
from types import MappingProxyType

ANSWER_S = 60
GONE_WITHIN_S = 15


class EngineError(Exception):
    """Reports that the engine refuses or does not answer; the text is the command's."""


def docker(*arguments: str, variables: Mapping[str, str] = MappingProxyType({})) -> str:
    """Runs `docker` with these arguments and returns its output, stripped. Raises EngineError. Ctrl-C in the terminal
    does not interrupt the command.
    """
    try:
        done = subprocess.run(
            ["docker", *arguments],
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            timeout=ANSWER_S,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EngineError(f"docker {arguments[0]}: {error}") from error
    if done.returncode != 0:
        raise EngineError(f"docker {arguments[0]}: {done.stderr.strip() or f'it exited with {done.returncode}'}")
    return done.stdout.strip()


def answers() -> bool:
    """Returns True if a Docker Engine answers."""
    try:
        docker("version", "--format", "{{.Server.Version}}")
    except EngineError:
        return False
    return True


def remove_made(label: str) -> None:
    """Removes every container, volume and network with the label `name=value`."""
    only = ("--quiet", "--filter", f"label={label}")
    if containers := docker("ps", "--all", *only).split():
        docker("rm", "--force", "--volumes", *containers)
    if volumes := docker("volume", "ls", *only).split():
        docker("volume", "rm", *volumes)
    if networks := docker("network", "ls", *only).split():
        docker("network", "rm", *networks)


def remove_images(label: str) -> None:
    if images := set(docker("image", "ls", "--quiet", "--no-trunc", "--filter", f"label={label}").split()):
        docker("image", "rm", "--force", *images)


def remove_network(name: str, within_s: float = GONE_WITHIN_S) -> None:
    """Removes the network if it exists; waits until containers have left it. Raises EngineError after `within_s`
    seconds.
    """
    deadline = time.monotonic() + within_s
    while docker("network", "ls", "--quiet", "--filter", f"name=^{name}$"):
        try:
            docker("network", "rm", name)
        except EngineError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def remove_container(name: str) -> None:
    """Removes the container and its volumes; does nothing if there is no such container."""
    if docker("ps", "--all", "--quiet", "--filter", f"name=^{name}$"):
        docker("rm", "--force", "--volumes", name)
