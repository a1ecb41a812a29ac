"""The kernel's count of the time in which processes waited for a CPU."""

from pathlib import Path

import pytest

from services.deployer.reconcile.cpu_pressure import cpu_waited_s


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("some avg10=1.00 avg60=2.00 avg300=3.00 total=2500000\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n", 2.5),
        ("", 0),
        ("something else", 0),
    ],
)
def test_it_is_read_in_seconds(tmp_path: Path, text: str, seconds: float) -> None:
    (tmp_path / "cpu").write_text(text)
    assert cpu_waited_s(tmp_path / "cpu") == seconds


def test_a_kernel_without_it_never_says_that_anyone_waited(tmp_path: Path) -> None:
    assert cpu_waited_s(tmp_path / "cpu") == 0
