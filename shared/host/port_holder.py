"""Says which process holds a TCP port, for the message that the port is taken."""

import contextlib
import socket

from shared.host.reserved_ports import exposed


def port_problem(host: str, port: int) -> str | None:
    """Returns the reason why a server cannot listen on this port, as a sentence for people. It names the process that
    holds the port, if this user may see it. Returns None if a server can listen.
    """
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return f"{error.strerror}{_held_by(port)}"
    return None


def _held_by(port: int) -> str:
    try:
        import psutil  # imported only when a start fails, since `make up` runs without packages
    except ImportError:
        return f"; `ss -tanp sport = :{port}` says by what"
    holders = [each for each in psutil.net_connections("tcp") if each.laddr and each.laddr.port == port]
    if not holders:
        return ""
    holder = min(holders, key=lambda each: (each.status != psutil.CONN_LISTEN, each.pid is None))
    name = "a process of another user"
    if holder.pid is not None:
        with contextlib.suppress(psutil.Error):
            name = f"{psutil.Process(holder.pid).name()} (process {holder.pid})"
    if holder.status == psutil.CONN_LISTEN:
        return f": {name} listens on it"
    chance = f"; Linux gives out such ports by chance, unless net.ipv4.ip_local_reserved_ports={port}"
    return f": {name} has an outgoing connection from it{chance if exposed([port]) else ''}"
