"""Says which process holds a TCP port, for the message that the port is taken."""

import asyncio
import contextlib
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

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


async def taken_by(ports: Mapping[str, int], own: Sequence[str]) -> str | None:
    """Returns a sentence, with the remedy, about the first of `ports` (name of its setting → port) on which a wrong
    program listens; None if there is none, or if this user may not see it. The right program has one of the names `own`
    as a word of its command line, with or without a folder. Takes about 0.1 s, in a thread, so it should be called only
    when something is amiss.
    """
    for setting, port in ports.items():
        if holder := await asyncio.to_thread(other_holder, port, own):
            return f"{holder} has its port {port}: end that, or set {setting} to another port"
    return None


def other_holder(port: int, own: Sequence[str]) -> str | None:
    """Returns the process that listens on this port of this machine, as `nc (process 77)`, unless its command line has
    one of the names `own`. Returns None if nothing else listens there, as far as this user may see.
    """
    import psutil

    for each in psutil.net_connections("tcp"):
        if not each.laddr or each.laddr.port != port or each.status != psutil.CONN_LISTEN:
            continue
        if each.pid is None:
            return "a process of another user"
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(each.pid)
            words = {Path(argument.partition(" ")[0]).name for argument in process.cmdline()}  # Redis sets its title
            if words.isdisjoint(own):
                return f"{process.name()} (process {each.pid})"
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
