"""Chooses an instance's address on its network: one that no other container has, running or stopped. Pure. The engine
assigns addresses from the network's `IPRange` by itself; this file chooses at random from those outside it. Envoy may
use an address for a while after its instance has gone, so a random choice keeps an app's visitors from reaching another
app there.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Any


@dataclass(frozen=True)
class AddressRange:
    """Holds a range of addresses, from `first` to `last`, that the engine never assigns by itself."""

    first: IPv4Address
    last: IPv4Address
    reserved: frozenset[IPv4Address] = frozenset()
    """Addresses that no container may get, such as the gateway's."""

    def choose(self, taken: Collection[IPv4Address], chance: float) -> IPv4Address | None:
        """Returns an address that is not in `taken`; None if all are taken. `chance` (0 to below 1) selects where in
        the range the search begins.
        """
        size = int(self.last) - int(self.first) + 1
        begin = int(chance * size)
        candidates = (self.first + (begin + step) % size for step in range(size))
        return next((each for each in candidates if each not in taken and each not in self.reserved), None)


def free_range(network: Mapping[str, Any]) -> AddressRange | None:
    """Returns the larger range of addresses outside the network's IPv4 `IPRange`; None if the network has no `IPRange`.
    `network` is the engine's inspection of it.
    """
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
    """Returns the addresses on the network that `containers` (the engine's list of them) have, or will get at their
    next start.
    """
    ends = [each["NetworkSettings"]["Networks"].get(network) or {} for each in containers]
    found = [end.get("IPAddress") for end in ends] + [(end.get("IPAMConfig") or {}).get("IPv4Address") for end in ends]
    return {IPv4Address(each) for each in found if each}
