"""The ports on which a container listens are read from the kernel's tables."""

import socket
from pathlib import Path

import pytest

from services.deployer.drivers.socket_tables import TABLES, listening

TCP = """  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F40 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 101 1 0000 100 0 0 10 0
   1: 0100007F:1F41 0100007F:9C40 01 00000000:00000000 00:00000000 00000000     0        0 102 1 0000 100 0 0 10 0
"""
TCP6 = """  sl  local_address                         remote_address                        st tx_queue rx_queue
   0: 00000000000000000000000000000000:0050 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000
   1: 00000000000000000000000001000000:0051 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000
"""


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (TCP, ["127.0.0.1:8000"]),
        (TCP + TCP6, ["[::]:80", "[::1]:81", "127.0.0.1:8000"]),
        (TCP.splitlines()[0], []),
        ("", None),
        ("sh: cat: not found", None),
    ],
)
def test_what_listens_is_told_by_the_tables(text: str, found: list[str] | None) -> None:
    assert listening(text) == found


def test_a_real_socket_is_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        tables = "".join(Path(table).read_text() for table in TABLES if Path(table).exists())
        assert f"127.0.0.1:{server.getsockname()[1]}" in (listening(tables) or [])
