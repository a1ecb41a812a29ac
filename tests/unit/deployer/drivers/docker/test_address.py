"""An instance gets a free address outside the engine's range; no engine is asked."""

from ipaddress import IPv4Address
from typing import Any

import pytest

from services.deployer.drivers.docker.address import AddressRange, free_range, taken
from shared.host.subnet import range_of

THREE = AddressRange(IPv4Address("10.0.0.4"), IPv4Address("10.0.0.6"))


def network(*pools: dict[str, Any]) -> dict[str, Any]:
    return {"IPAM": {"Config": list(pools)}}


@pytest.mark.parametrize(("chance", "last"), [(0, 4), (0.34, 5), (0.67, 6), (0.999999, 6)])
def test_chance_alone_says_which(chance: float, last: int) -> None:
    assert THREE.choose([], chance) == IPv4Address(f"10.0.0.{last}")


def test_of_a_wide_room_all_is_used() -> None:
    addresses = free_range(network({"Subnet": "172.18.0.0/16", "IPRange": "172.18.0.0/19"}))
    assert addresses is not None
    chosen = [str(addresses.choose([], chance)) for chance in (0, 0.5, 0.999999)]
    assert chosen == ["172.18.32.0", "172.18.143.255", "172.18.255.254"]


@pytest.mark.parametrize(
    ("others", "chance", "last"), [([5], 0.34, 6), ([6], 0.67, 4), ([4, 6], 0.67, 5), ([4, 5, 6], 0.34, None)]
)
def test_what_is_taken_is_left_to_who_has_it(others: list[int], chance: float, last: int | None) -> None:
    chosen = THREE.choose({IPv4Address(f"10.0.0.{each}") for each in others}, chance)
    assert chosen == (IPv4Address(f"10.0.0.{last}") if last else None)


@pytest.mark.parametrize(
    ("given", "first", "last"),
    [("10.0.0.0/27", 32, 254), ("10.0.0.224/27", 1, 223), ("10.0.0.64/27", 96, 254), ("10.0.0.192/27", 1, 191)],
)
def test_the_larger_part_beside_the_range_is_the_instances(given: str, first: int, last: int) -> None:
    addresses = free_range(network({"Subnet": "10.0.0.0/24", "IPRange": given}))
    assert addresses == AddressRange(IPv4Address(f"10.0.0.{first}"), IPv4Address(f"10.0.0.{last}"))


def test_the_gateway_and_what_a_person_set_aside_are_nobodys() -> None:
    pool = {"Subnet": "10.0.0.0/29", "IPRange": "10.0.0.0/30", "AuxiliaryAddresses": {"router": "10.0.0.5"}}
    addresses = free_range(network({**pool, "Gateway": "10.0.0.4"}))
    assert addresses is not None
    assert {addresses.choose([], each / 3) for each in range(3)} == {IPv4Address("10.0.0.6")}


@pytest.mark.parametrize(
    "pools",
    [
        [],
        [{"Subnet": "172.18.0.0/16", "Gateway": "172.18.0.1"}],
        [{"Subnet": "10.0.0.0/24", "IPRange": ""}],
        [{"Subnet": "10.0.0.0/24", "IPRange": "10.0.0.0/24"}],
        [{"Subnet": "fd00::/64", "IPRange": "fd00::/67"}],
    ],
)
def test_where_the_engine_may_give_every_address_none_is_chosen(pools: list[dict[str, Any]]) -> None:
    assert free_range(network(*pools)) is None
    assert free_range({"IPAM": {"Config": pools or None}}) is None


def test_of_two_pools_that_of_version_four_counts() -> None:
    six = {"Subnet": "fd00::/64", "IPRange": "fd00::/67"}
    addresses = free_range(network(six, {"Subnet": "10.0.0.0/24", "IPRange": "10.0.0.0/27"}))
    assert addresses is not None and addresses.first == IPv4Address("10.0.0.32")


def test_addresses_are_taken_also_of_what_does_not_run_and_only_on_this_network() -> None:
    def listed(**networks: dict[str, Any] | None) -> dict[str, Any]:
        return {"NetworkSettings": {"Networks": networks}}

    containers = [
        listed(apps={"IPAddress": "10.0.0.2", "IPAMConfig": None}),
        listed(apps={"IPAddress": "", "IPAMConfig": {"IPv4Address": "10.0.0.40"}}, other={"IPAddress": "10.1.0.9"}),
        listed(apps={"IPAddress": "", "IPAMConfig": {}}),
        listed(apps=None),
    ]
    assert taken(containers, "apps") == {IPv4Address("10.0.0.2"), IPv4Address("10.0.0.40")}


@pytest.mark.parametrize(
    ("subnet", "given"),
    [("172.18.0.0/16", "172.18.0.0/19"), ("192.168.16.0/20", "192.168.16.0/23"), ("10.0.0.128/25", "10.0.0.128/28")],
)
def test_the_engine_keeps_the_lowest_eighth_of_a_subnet(subnet: str, given: str) -> None:
    assert range_of(subnet) == given


@pytest.mark.parametrize("subnet", ["10.0.0.0/26", "fd00::/64"])
def test_a_subnet_that_cannot_be_shared_is_the_engines_altogether(subnet: str) -> None:
    assert range_of(subnet) is None
