"""Which address of its network an instance gets: one that no other container has, or would have if it ran. Pure.

A network whose subnet and range were chosen gives addresses of the range by itself. The others are ours to give, by
chance: Envoy may know a freed address for a while, and must not lead an app's visitors to another app.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Any


@dataclass(frozen=True)
class Room:
    """From `first` to `last` the engine gives nobody an address by itself; `reserved` are those of no container."""

    first: IPv4Address
    last: IPv4Address
    reserved: frozenset[IPv4Address] = frozenset()

    def choose(self, taken: Collection[IPv4Address], chance: float) -> IPv4Address | None:
        """One that is not `taken`, None if all are. `chance`: at least 0, less than 1."""
        size = int(self.last) - int(self.first) + 1
        begin = int(chance * size)
        candidates = (self.first + (begin + step) % size for step in range(size))
        return next((each for each in candidates if each not in taken and each not in self.reserved), None)


def room_of(network: Mapping[str, Any]) -> Room | None:
    """By the engine's inspection. None: it has no range, so the engine may give any address to anybody."""
    for pool in network["IPAM"]["Config"] or []:
        given = pool.get("IPRange")
        if given and ":" not in given:
            return _beside(pool)
    return None


def _beside(pool: Mapping[str, Any]) -> Room | None:
    subnet, given = IPv4Network(pool["Subnet"]), IPv4Network(pool["IPRange"], strict=False)
    below = subnet.network_address + 1, given.network_address - 1
    above = given.broadcast_address + 1, subnet.broadcast_address - 1
    first, last = max(below, above, key=lambda ends: int(ends[1]) - int(ends[0]))
    named = [pool.get("Gateway"), *(pool.get("AuxiliaryAddresses") or {}).values()]
    reserved = frozenset(IPv4Address(each.partition("/")[0]) for each in named if each)
    return Room(first, last, reserved) if first <= last else None


def taken(containers: Iterable[Mapping[str, Any]], network: str) -> set[IPv4Address]:
    """By the engine's list, also of those that do not run: whoever starts one again has it at its address."""
    ends = [each["NetworkSettings"]["Networks"].get(network) or {} for each in containers]
    found = [end.get("IPAddress") for end in ends] + [(end.get("IPAMConfig") or {}).get("IPv4Address") for end in ends]
    return {IPv4Address(each) for each in found if each}
