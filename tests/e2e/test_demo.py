"""README's first command, as a stranger runs it."""

import os
import subprocess
import sys
import tempfile

from stack.local.programs import ROOT


def test_every_line_of_the_demo_holds() -> None:
    with tempfile.TemporaryDirectory(prefix="slipway-demo-") as home:
        environment = os.environ | {"SLIPWAY_HOME": home}
        command = [sys.executable, "-m", "stack.demo"]
        ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.count("  ok   ") == 11, ran.stdout
    assert "Every line held" in ran.stdout
