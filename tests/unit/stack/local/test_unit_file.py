"""The unit for a start at boot is one that systemd takes, and spares what a killed launcher leaves."""

import configparser
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from stack.local.programs import ROOT

UNIT = ROOT / "stack" / "local" / "slipway.service"


def test_a_killed_launcher_is_started_again_and_nothing_else_is_ended() -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(UNIT)
    service = unit["Service"]
    assert (service["Restart"], service["KillMode"], service["OOMPolicy"]) == ("always", "process", "continue")
    assert service["ExecStart"].endswith("/.venv/bin/python -m stack.local")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_has_nothing_to_say_against_it(tmp_path: Path) -> None:
    own = UNIT.read_text().replace("/opt/slipway/.venv/bin/python", sys.executable).replace("/opt/slipway", str(ROOT))
    (tmp_path / "slipway.service").write_text(own)
    told = subprocess.run(
        ["systemd-analyze", "verify", str(tmp_path / "slipway.service")], capture_output=True, text=True, timeout=30
    )
    assert (told.returncode, "slipway.service" in told.stdout + told.stderr) == (0, False), told.stderr
