"""Divides the subnet of the network on which the apps' containers run. Imports only the standard library, because `make
up` runs without installed packages.
"""

from ipaddress import ip_network

EIGHTH = 3  # bits: the engine assigns addresses from an eighth of the subnet
SMALLEST = 25  # bits: in a smaller subnet, an eighth is too small for the platform's own containers


def range_of(subnet: str) -> str | None:
    """Returns the first eighth of `subnet` (CIDR), from which the Docker Engine assigns addresses by itself. Returns
    None if the subnet is smaller than /25 or IPv6. Raises ValueError with a remedy if `subnet` is not a subnet.
    """
    try:
        whole = ip_network(subnet)
    except ValueError as error:
        raise ValueError(f"{error}; write a subnet like 172.30.0.0/16, whose address ends with zero bits") from None
    if whole.version == 6 or whole.prefixlen > SMALLEST:
        return None
    return str(next(whole.subnets(EIGHTH)))
