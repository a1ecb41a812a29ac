"""Finds the port of a test service, and whether a program listens on it, from the image's configuration and the
container's network tables. Pure.
"""

from collections.abc import Mapping
from typing import Any

from services.build.executors.executor import ServiceOrder

LISTENING = "0A"
_LOOPBACK = ("0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F")


def port_of(order: ServiceOrder, image: Mapping[str, Any]) -> int | None:
    """Returns the port that the manifest gives for the test service; without one, the lowest TCP port that the image
    configuration `image` exposes; None if that exposes none.
    """
    exposed = [int(port.split("/")[0]) for port in image.get("ExposedPorts") or () if not port.endswith("/udp")]
    return order.port or min(exposed, default=None)


def is_checked(image: Mapping[str, Any]) -> bool:
    """Returns True if the image configuration `image` has a health check (HEALTHCHECK of its Dockerfile)."""
    test = (image.get("Healthcheck") or {}).get("Test") or ["NONE"]
    return bool(test != ["NONE"])


def listens(table: str, port: int) -> bool:
    """Returns True if a program listens on `port` at an address other than loopback. `table` holds the text of the
    container's `/proc/net/tcp` and `/proc/net/tcp6`.
    """
    rows = [row.split() for row in table.splitlines()]
    places = [row[1].split(":") for row in rows if len(row) > 3 and row[3] == LISTENING and ":" in row[1]]
    return any(address not in _LOOPBACK and int(at, 16) == port for address, at in places)
