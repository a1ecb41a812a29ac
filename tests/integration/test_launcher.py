"""`make local` beside services that are late."""

import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from stack.local.local_stack import environment, settings_on_free_ports
from stack.local.programs import ROOT

LAUNCH = """
from shared.config import SharedSettings
from stack.local.launcher import Launcher, write_files

settings = SharedSettings()
write_files(settings)
Launcher(settings, report_s=1).run()
"""


@pytest.mark.slow
def test_services_that_are_not_ready_are_reported_and_the_stack_runs_on() -> None:
    """Without an engine, build and deployer never get ready."""
    with tempfile.TemporaryDirectory(prefix="slipway-") as home:
        settings = settings_on_free_ports(Path(home)).model_copy(update={"driver": "docker"})
        variables = {**os.environ, **environment(settings), "DOCKER_HOST": f"unix://{home}/no-engine.sock"}
        with subprocess.Popen(
            [sys.executable, "-c", LAUNCH],
            cwd=ROOT,
            env=variables,
            text=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        ) as launcher:
            deadline = threading.Timer(60, launcher.kill)
            deadline.start()
            try:
                assert launcher.stderr is not None
                told = ""
                while not ("deployer is not ready after " in told and "the Docker Engine does not answer" in told):
                    told = launcher.stderr.readline()
                    assert told, "the launcher ended"
                assert f"see {home}/logs/deployer.log" in told
                assert launcher.poll() is None
            finally:
                deadline.cancel()
                launcher.terminate()
            assert launcher.wait(20) == 0
