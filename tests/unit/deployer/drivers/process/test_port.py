"""Ports of instances, and what Linux gives to outgoing connections."""

from pathlib import Path

import pytest

from services.deployer.drivers.process.port import FIRST, LAST, NoPort, PortPicker


@pytest.fixture
def sysctl(tmp_path: Path) -> Path:
    """A folder like the kernel's, with its defaults."""
    (tmp_path / "ip_local_port_range").write_text("32768\t60999\n")
    (tmp_path / "ip_local_reserved_ports").write_text("\n")
    return tmp_path


def picker(sysctl: Path, position: int) -> PortPicker:
    (sysctl / ".port").write_text(str(position))
    return PortPicker(sysctl / ".port", sysctl)


def test_ports_follow_each_other_and_none_that_is_taken_is_given(sysctl: Path) -> None:
    ports = picker(sysctl, LAST - 2)
    first = ports.pick({LAST - 1})
    assert first not in (LAST - 1, LAST - 2)
    assert ports.pick({first}) != first


def test_where_they_may_go_to_outgoing_connections_they_are_reserved_beside_what_is(sysctl: Path) -> None:
    (sysctl / "ip_local_port_range").write_text("1024 65535\n")
    (sysctl / "ip_local_reserved_ports").write_text("8080,9000-9010\n")
    picker(sysctl, FIRST).pick(set())
    assert (sysctl / "ip_local_reserved_ports").read_text() == "8080,9000-9010,20000-29999"


def test_those_that_cannot_be_reserved_are_left_out(sysctl: Path) -> None:
    (sysctl / "ip_local_port_range").write_text("25000 65535\n")
    read_only(sysctl / "ip_local_reserved_ports")
    assert picker(sysctl, 24_999).pick(set()) < 25_000


def test_where_all_may_go_to_outgoing_connections_they_are_used_and_the_log_has_the_remedy(
    sysctl: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (sysctl / "ip_local_port_range").write_text("1024 65535\n")
    read_only(sysctl / "ip_local_reserved_ports")
    assert FIRST <= picker(sysctl, FIRST).pick(set()) <= LAST
    assert "sysctl -w net.ipv4.ip_local_reserved_ports=20000-29999" in caplog.text


def test_none_left_names_who_has_them(sysctl: Path) -> None:
    (sysctl / "ip_local_port_range").write_text("20010 65535\n")
    read_only(sysctl / "ip_local_reserved_ports")
    why = "instances have 10, 9990 are for outgoing connections .*=20010-29999"
    with pytest.raises(NoPort, match=why):
        picker(sysctl, FIRST).pick(set(range(FIRST, 20_010)))


def read_only(path: Path) -> None:
    """A file of the kernel that root may not write either; it holds one number."""
    path.unlink()
    path.symlink_to("/proc/sys/kernel/random/poolsize")
