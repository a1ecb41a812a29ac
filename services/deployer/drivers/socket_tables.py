"""Parses the kernel's tables of TCP sockets. Pure."""

import ipaddress
import socket

TABLES = ("/proc/net/tcp", "/proc/net/tcp6")
LISTEN = "0A"


def listening(text: str) -> list[str] | None:
    """Returns the addresses (`host:port`) on which programs listen. `text` is the content of `/proc/net/tcp` and
    `/proc/net/tcp6`. Returns None if `text` is not such a table. (The tables hold addresses in hexadecimal, each four
    bytes as a number in the machine's byte order.)
    """
    if "local_address" not in text:
        return None
    found = set()
    for fields in map(str.split, text.splitlines()):
        if len(fields) > 3 and fields[3] == LISTEN:
            host, _, port = fields[1].partition(":")
            words = [int(host[at : at + 8], 16) for at in range(0, len(host), 8)]
            packed = b"".join(socket.htonl(word).to_bytes(4) for word in words)
            found.add((int(port, 16), str(ipaddress.ip_address(packed))))
    return [f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}" for port, ip in sorted(found)]
