"""What tells that a service in a container is ready. Pure."""

from collections.abc import Mapping
from typing import Any

from services.build.executors.executor import ServiceOrder

LISTENING = "0A"
_LOOPBACK = ("0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F")


def port_of(order: ServiceOrder, image: Mapping[str, Any]) -> int | None:
    """Where it listens: as the manifest says, else the lowest TCP port that the `image` exposes."""
    exposed = [int(port.split("/")[0]) for port in image.get("ExposedPorts") or () if not port.endswith("/udp")]
    return order.port or min(exposed, default=None)


def is_checked(image: Mapping[str, Any]) -> bool:
    """Whether it has a HEALTHCHECK."""
    test = (image.get("Healthcheck") or {}).get("Test") or ["NONE"]
    return bool(test != ["NONE"])


def listens(table: str, port: int) -> bool:
    """By `/proc/net/tcp` and `tcp6`: whether others than its own container reach the port."""
    rows = [row.split() for row in table.splitlines()]
    places = [row[1].split(":") for row in rows if len(row) > 3 and row[3] == LISTENING and ":" in row[1]]
    return any(address not in _LOOPBACK and int(at, 16) == port for address, at in places)
