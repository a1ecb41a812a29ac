"""Picks TCP ports for instances that run as processes."""

import contextlib
import logging
import random
import socket
from collections.abc import Collection
from itertools import chain
from pathlib import Path

from shared.host.reserved_ports import SYSCTL, reserve, text_of

log = logging.getLogger(__name__)

FIRST, LAST = 20_000, 29_999
REMEDY = "sysctl -w net.ipv4.ip_local_reserved_ports={}"


class NoPort(OSError):
    """Reports that all ports of the range for instances are taken."""


class PortPicker:
    """Picks ports round-robin, so that a freed port is used again as late as possible: until Envoy has forgotten the
    port, visitors of the old app would reach the new one. The file `position` keeps the last port across restarts;
    without that file, the start is random. Ports that Linux may give to outgoing connections (by default those from
    32768 on) are reserved, since an app could find its port taken. If they cannot be reserved they are left out, unless
    no other port is left.
    """

    def __init__(self, position: Path, sysctl: Path = SYSCTL) -> None:
        self._position = position
        self._sysctl = sysctl
        self._exposed: frozenset[int] | None = None

    def pick(self, taken: Collection[int]) -> int:
        """Returns a port that is not in `taken` and can be bound. Raises NoPort, or OSError if `position` cannot be
        written.
        """
        exposed = self._left_out()
        start = self._start()
        for port in chain(range(start, LAST + 1), range(FIRST, start)):
            if port not in taken and port not in exposed and is_free(port):
                self._position.write_text(str(port))
                return port
        own = sum(FIRST <= port <= LAST for port in taken)
        given = f", {len(exposed)} are for outgoing connections ({REMEDY.format(text_of(exposed))})" if exposed else ""
        raise NoPort(
            f"no TCP port from {FIRST} to {LAST} is free: instances have {own}{given}, other programs the rest; "
            "end something that uses them"
        )

    def _left_out(self) -> frozenset[int]:
        if self._exposed is None:
            every = range(FIRST, LAST + 1)
            exposed = frozenset(reserve(every, self._sysctl))
            if len(exposed) == len(every):
                log.warning(
                    "Linux may give an instance's port to an outgoing connection before the app binds it; as root: %s",
                    REMEDY.format(text_of(every)),
                )
                exposed = frozenset()
            self._exposed = exposed
        return self._exposed

    def _start(self) -> int:
        with contextlib.suppress(FileNotFoundError, ValueError):
            following = int(self._position.read_text()) + 1
            return following if FIRST <= following <= LAST else FIRST
        return random.randint(FIRST, LAST)


def is_free(port: int) -> bool:
    """Returns True if the port can be bound on all addresses of the machine, which is the strictest test."""
    with socket.socket() as probe:
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True
