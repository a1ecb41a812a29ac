"""Addresses on a real engine: an instance's is its own, and is nobody else's soon."""

import os
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from services.deployer.drivers.docker.container import Stack, creation
from services.deployer.drivers.driver import Driver, DriverError, InstanceSpec
from shared.host.docker_engine import STACK
from shared.manifest import MIB
from shared.models import Artifact
from tests.support.deployer.engine import BASE

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container
    from docker.models.networks import Network

pytestmark = [pytest.mark.anyio, pytest.mark.docker]


@pytest.fixture
async def driver(stack: Stack) -> AsyncIterator[Driver]:
    from services.deployer.drivers.docker.driver import DockerDriver

    made = DockerDriver(stack, os.environ, Path("/sys/fs/cgroup"))
    yield made
    made.close()


@pytest.fixture
def spec(image: Artifact) -> InstanceSpec:
    return InstanceSpec("notes-r1-1", image, "sleep 60", {}, 64 * MIB, 9090)


@pytest.fixture
def other(engine: "DockerClient", stack: Stack) -> "Callable[..., Container]":
    """Starts a container that is no instance, as the platform's own are not."""

    def start(**ends: Any) -> "Container":
        labels = {STACK: stack.id}
        return engine.containers.run(
            BASE, ["sleep", "60"], detach=True, labels=labels, network=stack.network, init=True, **ends
        )

    return start


@pytest.fixture
def narrow(engine: "DockerClient", stack: Stack) -> "Network":
    """A network on which three addresses are instances', from the fourth on."""
    return network_of(engine, stack, 29, 30)


def network_of(engine: "DockerClient", stack: Stack, bits: int, range_bits: int) -> "Network":
    from docker.types import IPAMConfig, IPAMPool

    trial = engine.networks.create(stack.network)
    trial.reload()
    first = IPv4Network(trial.attrs["IPAM"]["Config"][0]["Subnet"]).network_address
    trial.remove()
    pool = IPAMPool(subnet=f"{first}/{bits}", iprange=f"{first}/{range_bits}")
    return engine.networks.create(stack.network, ipam=IPAMConfig(pool_configs=[pool]))


def host(address: str) -> IPv4Address:
    return IPv4Address(address.partition(":")[0])


def end(container: "Container", stack: Stack) -> dict[str, Any]:
    container.reload()
    found: dict[str, Any] = container.attrs["NetworkSettings"]["Networks"][stack.network]
    return found


async def test_what_the_engine_gives_by_itself_is_never_an_instances(
    driver: Driver, spec: InstanceSpec, engine: "DockerClient", stack: Stack, other: "Callable[..., Container]"
) -> None:
    instance = host((await driver.start(spec)).address)
    [pool] = engine.networks.list(names=[stack.network])[0].attrs["IPAM"]["Config"]
    subnet, given = IPv4Network(pool["Subnet"]), IPv4Network(pool["IPRange"])
    assert given.subnet_of(subnet) and given.num_addresses * 8 == subnet.num_addresses
    assert instance in subnet and instance not in given
    assert IPv4Address(end(other(), stack)["IPAddress"]) in given


async def test_one_that_is_started_again_has_the_address_that_it_had(
    driver: Driver, spec: InstanceSpec, engine: "DockerClient", stack: Stack, other: "Callable[..., Container]"
) -> None:
    address = (await driver.start(spec)).address
    container = engine.containers.get(stack.container_name(spec.id))
    container.kill()
    others = {end(other(), stack)["IPAddress"], host((await driver.start(replace(spec, id="notes-r1-2"))).address)}
    assert str(host(address)) not in {str(each) for each in others}
    container.start()
    assert (await driver.statuses())[spec.id].address == address
    container.restart(timeout=1)
    assert (await driver.statuses())[spec.id].address == address


async def test_the_address_of_an_ended_one_is_given_again_only_when_that_is_forgotten(
    driver: Driver, spec: InstanceSpec, narrow: "Network"
) -> None:
    ids = ["notes-r1-1", "notes-r1-2", "notes-r1-3"]
    given = [(await driver.start(replace(spec, id=each))).address for each in ids]
    assert len(set(given)) == 3
    await driver.stop(ids[0], 5)
    last = replace(spec, id="notes-r1-4")
    with pytest.raises(DriverError, match="no address left"):
        await driver.start(last)
    await driver.forget(ids[0])
    assert (await driver.start(last)).address == given[0]


async def test_whose_address_another_is_quicker_to_take_gets_a_different_one(
    driver: Driver, spec: InstanceSpec, engine: "DockerClient", stack: Stack, other: "Callable[..., Container]"
) -> None:
    """It was made, and not started: the deployer ended between the two."""
    assert network_of(engine, stack, 24, 27).name == stack.network
    subnet = IPv4Network(engine.networks.list(names=[stack.network])[0].attrs["IPAM"]["Config"][0]["Subnet"])
    address = engine.api.create_endpoint_config(ipv4_address=str(subnet.network_address + 99))
    engine.containers.create(**creation(spec, stack), networking_config={stack.network: address})
    taker = other(networking_config={stack.network: address})
    started = await driver.start(spec)
    assert started.running and host(started.address) in subnet
    assert host(started.address) != IPv4Address(end(taker, stack)["IPAddress"]) == subnet.network_address + 99
    assert list(await driver.statuses()) == [spec.id]


async def test_on_a_network_without_a_range_the_engine_gives_addresses_as_before(
    driver: Driver, spec: InstanceSpec, engine: "DockerClient", stack: Stack
) -> None:
    engine.networks.create(stack.network)
    started = await driver.start(spec)
    container = engine.containers.get(stack.container_name(spec.id))
    assert not (end(container, stack)["IPAMConfig"] or {}).get("IPv4Address")
    assert started.address == f"{end(container, stack)['IPAddress']}:9090"


async def test_what_one_that_was_cut_off_left_is_removed_and_no_trial_stays(
    driver: Driver, spec: InstanceSpec, engine: "DockerClient", stack: Stack
) -> None:
    engine.networks.create(f"{stack.network}-subnet", labels={STACK: stack.id})
    await driver.start(spec)
    assert [each.name for each in engine.networks.list(names=[stack.network])] == [stack.network]


class Quicker:
    """An engine on which somebody else makes a network with the first subnet that is asked for, just before."""

    def __init__(self, engine: "DockerClient", name: str) -> None:
        self.api, self.networks = engine.api, self
        self._engine, self._name = engine, name
        self.taken: Any = None

    def list(self, **filters: Any) -> "list[Network]":
        return self._engine.networks.list(**filters)

    def create(self, name: str, ipam: Any = None, **more: Any) -> "Network":
        if ipam and self.taken is None:
            self.taken = ipam["Config"][0]["Subnet"]
            self._engine.networks.create(self._name, ipam=ipam)
        return self._engine.networks.create(name, ipam=ipam, **more)


async def test_a_subnet_that_another_is_quicker_to_take_is_left_to_it(engine: "DockerClient", stack: Stack) -> None:
    from services.deployer.drivers.docker.network import address

    quicker = Quicker(engine, f"{stack.network}-quicker")
    address(cast(Any, quicker), stack)
    own, others = (
        each.attrs["IPAM"]["Config"][0]
        for each in sorted(engine.networks.list(names=[stack.network]), key=lambda each: str(each.name))
    )
    assert own["IPRange"] and others["Subnet"] == quicker.taken != own["Subnet"]
