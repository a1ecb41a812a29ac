"""How the subnet of the apps' network is shared out (decision 18). Plain Python: `make up` has no packages."""

from ipaddress import ip_network

EIGHTH = 3  # bits: the part of a subnet that the engine gives
SMALLEST = 25  # bits: an eighth of a smaller subnet is too little for the platform's own containers


def range_of(subnet: str) -> str | None:
    """What of a subnet is to be the engine's; None if it is too small to be shared, or not of IPv4."""
    whole = ip_network(subnet)
    if whole.version == 6 or whole.prefixlen > SMALLEST:
        return None
    return str(next(whole.subnets(EIGHTH)))
