"""Creates the network of the apps, in which no other container gets the address of an app. The deployer gives apps
fixed addresses; the engine gives all other containers addresses from a small part of the subnet. Imports no packages,
because `make up` runs without any.
"""

import json
from typing import Any

from shared.host.docker_engine import STACK
from shared.host.subnet import range_of
from stack.compose.engine import EngineError, docker

TRIES = 10
INSTANCE = "io.slipway.instance"
DONE = ("created", "exited", "dead")
WITHOUT = "The network {} gives apps no addresses of their own:"


def ensure(name: str, project: str) -> str:
    """Creates the network if there is none; returns a hint for people, or an empty text. Raises EngineError."""
    if (found := _found(name)) is None:
        return _make(name, project)
    if any(pool.get("IPRange") for pool in found["IPAM"]["Config"] or []):
        return ""
    if not _is_ours(found, project) or _range_of(found) is None:
        return f"{WITHOUT.format(name)} make it with --subnet and --ip-range."
    if _is_needed(name):
        return f"{WITHOUT.format(name)} `make down`, then `make up` makes it anew."
    docker("network", "rm", name)
    return _make(name, project)


def _make(name: str, project: str) -> str:
    """Creates the network on a subnet that the engine chooses, since that must not overlap with any other on the
    machine. It creates the network a first time to learn the subnet, and a second time with that subnet and a range. If
    another network takes the subnet in between, both steps are repeated. After an interruption, the next start repeats
    them.
    """
    for attempt in range(1, TRIES + 1):
        _create(name, project)
        made = _inspected(name)
        subnet, given = _subnet(made), _range_of(made)
        if given is None:
            break
        docker("network", "rm", name)
        try:
            _create(name, project, "--subnet", subnet, "--ip-range", given)
            break
        except EngineError:
            if attempt == TRIES:
                raise
    return ""


def _subnet(network: dict[str, Any]) -> str:
    return str(network["IPAM"]["Config"][0]["Subnet"])


def _range_of(network: dict[str, Any]) -> str | None:
    try:
        return range_of(_subnet(network))
    except ValueError as error:
        remedy = f"`docker network rm {network['Name']}`, then `make up` makes it anew"
        raise EngineError(f"network {network['Name']}: {error}; {remedy}") from error


def _create(name: str, project: str, *chosen: str) -> None:
    docker("network", "create", "--driver", "bridge", "--label", f"{STACK}={project}", *chosen, name)


def _found(name: str) -> dict[str, Any] | None:
    there = docker("network", "ls", "--quiet", "--filter", f"name=^{name}$")
    return _inspected(name) if there else None


def _inspected(name: str) -> dict[str, Any]:
    [found] = json.loads(docker("network", "inspect", name))
    return dict(found)


def _is_ours(network: dict[str, Any], project: str) -> bool:
    """Returns True if the network was created by `make up`, by the deployer, or by Compose (in an older version of
    Slipway).
    """
    labels = network["Labels"] or {}
    return project in (labels.get(STACK), labels.get("com.docker.compose.project"))


def _is_needed(name: str) -> bool:
    """Returns True if the network has a container that is running or may start again. Instances of apps that have ended
    do not count.
    """
    row = f'{{{{.State}}}} {{{{.Label "{INSTANCE}"}}}}'
    rows = docker("ps", "--all", "--filter", f"network={name}", "--format", row).splitlines()
    return any(state not in DONE or not instance for state, _, instance in (each.partition(" ") for each in rows))
