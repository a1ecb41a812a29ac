"""Chooses an instance's address on its network: one that no other container has, also none that is stopped. Pure.

The engine itself assigns addresses in the network's `IPRange`; this file chooses from the others, at random. Envoy may
use a freed address for a while, so an early reuse would lead an app's visitors to another app.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Any


@dataclass(frozen=True)
class AddressRange:
    """The addresses from `first` to `last`, which the engine never assigns by itself."""

    first: IPv4Address
    last: IPv4Address
    reserved: frozenset[IPv4Address] = frozenset()
    """Addresses that no container may get: the gateway and auxiliary ones."""

    def choose(self, taken: Collection[IPv4Address], chance: float) -> IPv4Address | None:
        """Returns an address not in `taken`; None if all are. `chance` (0 to below 1) selects the first candidate."""
        size = int(self.last) - int(self.first) + 1
        begin = int(chance * size)
        candidates = (self.first + (begin + step) % size for step in range(size))
        return next((each for each in candidates if each not in taken and each not in self.reserved), None)


def free_range(network: Mapping[str, Any]) -> AddressRange | None:
    """Returns the larger address range outside the network's IPv4 `IPRange`; None if it has no `IPRange`."""
    for pool in network["IPAM"]["Config"] or []:
        given = pool.get("IPRange")
        if given and ":" not in given:
            return _outside(pool)
    return None


def _outside(pool: Mapping[str, Any]) -> AddressRange | None:
    subnet, given = IPv4Network(pool["Subnet"]), IPv4Network(pool["IPRange"], strict=False)
    below = subnet.network_address + 1, given.network_address - 1
    above = given.broadcast_address + 1, subnet.broadcast_address - 1
    first, last = max(below, above, key=lambda ends: int(ends[1]) - int(ends[0]))
    named = [pool.get("Gateway"), *(pool.get("AuxiliaryAddresses") or {}).values()]
    reserved = frozenset(IPv4Address(each.partition("/")[0]) for each in named if each)
    return AddressRange(first, last, reserved) if first <= last else None


def taken(containers: Iterable[Mapping[str, Any]], network: str) -> set[IPv4Address]:
    """Returns the addresses on the network that `containers` (the engine's list) have, or get at their next start."""
    ends = [each["NetworkSettings"]["Networks"].get(network) or {} for each in containers]
    found = [end.get("IPAddress") for end in ends] + [(end.get("IPAMConfig") or {}).get("IPv4Address") for end in ends]
    return {IPv4Address(each) for each in found if each}
