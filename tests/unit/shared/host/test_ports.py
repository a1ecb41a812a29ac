"""The holder of a port is found, and the platform's ports are reserved against outgoing connections."""

import os
import socket
from pathlib import Path

import pytest

from shared.host.port_holder import port_problem, taken_by
from shared.host.reserved_ports import exposed, reserve, text_of
from tests.support.ports import free_port, listener


@pytest.fixture
def sysctl(tmp_path: Path) -> Path:
    """A folder like the kernel's, with its defaults."""
    (tmp_path / "ip_local_port_range").write_text("32768\t60999\n")
    (tmp_path / "ip_local_reserved_ports").write_text("\n")
    return tmp_path


def test_only_ports_in_the_range_that_are_not_reserved_are_exposed(sysctl: Path) -> None:
    assert exposed([3456, 50000, 50100, 61000], sysctl) == [50000, 50100]
    (sysctl / "ip_local_reserved_ports").write_text("40000,49990-50050\n")
    assert exposed([3456, 50000, 50100], sysctl) == [50100]


def test_what_is_reserved_already_stays(sysctl: Path) -> None:
    assert reserve([3456, 50000, 50100], sysctl) == []
    assert reserve([50000, 50200], sysctl) == []
    assert (sysctl / "ip_local_reserved_ports").read_text() == "50000,50100,50200"


def test_who_may_not_reserve_them_is_told_which_remain(sysctl: Path) -> None:
    (sysctl / "ip_local_reserved_ports").unlink()
    (sysctl / "ip_local_reserved_ports").symlink_to("/proc/sys/kernel/random/poolsize")  # not even root may write it
    assert reserve([3456, 50000], sysctl) == [50000]


def test_a_system_without_such_files_exposes_nothing(tmp_path: Path) -> None:
    assert reserve([50000], tmp_path) == []


def test_ports_are_written_as_the_kernel_does() -> None:
    assert text_of([50100, 20000, 20001, 20002, 50000]) == "20000-20002,50000,50100"
    assert text_of([]) == ""


def test_a_port_that_is_free_is_no_problem() -> None:
    assert port_problem("127.0.0.1", free_port()) is None


def test_who_listens_on_it_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        problem = port_problem("127.0.0.1", listening.getsockname()[1])
    assert problem is not None
    assert problem.startswith("Address already in use: ")
    assert problem.endswith(f"(process {os.getpid()}) listens on it")


def test_who_has_an_outgoing_connection_from_it_is_named_with_the_remedy() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()[:2]) as connection,
    ):
        port = connection.getsockname()[1]
        problem = port_problem("127.0.0.1", port)
    assert problem is not None
    assert f"(process {os.getpid()}) has an outgoing connection from it" in problem
    if exposed([port]):
        assert problem.endswith(f"unless net.ipv4.ip_local_reserved_ports={port}")


@pytest.mark.anyio
async def test_who_has_the_port_of_a_service_is_named_unless_it_is_the_service() -> None:
    port, free = free_port(), free_port()
    with listener(port, "nobody") as pid:
        taken = await taken_by({"SLIPWAY_A_PORT": free, "SLIPWAY_FLAGS_PORT": port}, ["services.flags"])
    assert taken is not None
    assert f"(process {pid}) has its port {port}: end that, or set SLIPWAY_FLAGS_PORT to another port" in taken
    with listener(port, "services.flags"):
        assert await taken_by({"SLIPWAY_FLAGS_PORT": port}, ["services.flags"]) is None
    assert await taken_by({"SLIPWAY_FLAGS_PORT": port}, ["services.flags"]) is None
