"""Creates the network of the instances if it is missing, and chooses an instance's address on it."""

import logging
import random
from typing import Any

import docker
from docker.errors import APIError
from docker.types import IPAMConfig, IPAMPool

from services.deployer.drivers.docker.address import free_range, taken
from services.deployer.drivers.docker.connection import unless_conflict
from services.deployer.drivers.docker.container import Stack
from services.deployer.drivers.driver import DriverError
from shared.host.docker_engine import STACK
from shared.host.subnet import range_of

log = logging.getLogger(__name__)

TRIES = 10


def address(client: docker.DockerClient, stack: Stack) -> dict[str, Any]:
    """Returns the arguments that give a new container its address; empty if the engine is to assign one. Creates the
    network if it is missing. Raises DriverError if no address is free.
    """
    name = stack.network
    free = free_range(_found(client, name) or _made(client, stack))
    if free is None:
        return {}
    there = client.api.containers(all=True, filters={"network": name})
    chosen = free.choose(taken(there, name), random.random())
    if chosen is None:
        raise DriverError(f"the network {name} has no address left from {free.first} to {free.last}; enlarge it")
    return {"networking_config": {name: client.api.create_endpoint_config(ipv4_address=str(chosen))}}


def is_taken(error: APIError) -> bool:
    """Returns True if the engine's error says that another container has the chosen address."""
    return "Address already in use" in str(error.explanation)


def _found(client: docker.DockerClient, name: str) -> dict[str, Any] | None:
    """Returns the network with exactly this name, or None. (The engine's filter also finds longer names.)"""
    return next((each.attrs for each in client.networks.list(names=[name]) if each.name == name), None)


def _made(client: docker.DockerClient, stack: Stack) -> dict[str, Any]:
    """Creates the network and returns it. Addresses can be chosen only in a subnet that is set explicitly, so the
    engine first picks a free subnet for a temporary network. If another network takes that subnet in the meantime, the
    function tries again, up to 10 times. Raises DriverError or APIError.
    """
    log.info("the network %s is created", stack.network)
    for attempt in range(1, TRIES + 1):
        subnet = _free_subnet(client, stack)
        given = range_of(subnet)
        ipam = IPAMConfig(pool_configs=[IPAMPool(subnet=subnet, iprange=given)]) if given else None
        try:
            with unless_conflict():
                _create(client, stack.network, stack, ipam)
        except APIError:
            if attempt == TRIES:
                raise
        if (made := _found(client, stack.network)) is not None:
            return made
    raise DriverError(f"the network {stack.network} is removed again and again after its creation; find out by what")


def _free_subnet(client: docker.DockerClient, stack: Stack) -> str:
    name = f"{stack.network}-subnet"
    for left in client.networks.list(names=[name], filters={"label": stack.label}):
        left.remove()  # made by a call that was interrupted
    trial = _create(client, name, stack)
    try:
        trial.reload()
        return str(trial.attrs["IPAM"]["Config"][0]["Subnet"])
    finally:
        trial.remove()


def _create(client: docker.DockerClient, name: str, stack: Stack, ipam: IPAMConfig | None = None) -> Any:
    return client.networks.create(name, driver="bridge", check_duplicate=True, labels={STACK: stack.id}, ipam=ipam)
