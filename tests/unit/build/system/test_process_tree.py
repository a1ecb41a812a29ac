"""All processes below a command can be ended, and end with the service."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest

from services.build.system.process_tree import ProcessTree
from tests.support.build.service import eventually

pytestmark = pytest.mark.anyio
ENVIRONMENT = {"PATH": os.environ["PATH"]}
# A service that starts a tree and is killed.
SERVICE = """
import os, sys, time
from pathlib import Path
from services.build.system.process_tree import ProcessTree
tree = ProcessTree(["sh", "-c", "env -i setsid sleep 60 & sleep 60"], Path(sys.argv[1]), os.environ, 2, 0.2)
time.sleep(60)
"""


def sleepers(folder: Path) -> list[int]:
    return [each.pid for each in psutil.process_iter(["name", "cwd"]) if each.info["cwd"] == str(folder)]


async def test_the_exit_code_comes_before_the_tree_is_ended(tmp_path: Path) -> None:
    tree = ProcessTree(["sh", "-c", "env -i setsid sleep 60 & exit 3"], tmp_path, ENVIRONMENT, subprocess.DEVNULL, 0.2)
    assert await tree.exit_code() == await tree.exit_code() == 3
    eventually(lambda: len(sleepers(tmp_path)) == 2)  # the runner, and what the command left
    await tree.close()
    assert (sleepers(tmp_path), tree.lost) == ([], False)


async def test_what_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    script = "trap '' TERM; touch ready; while true; do sleep 60; done"
    tree = ProcessTree(["sh", "-c", script], tmp_path, ENVIRONMENT, subprocess.DEVNULL, 0.2)
    eventually((tmp_path / "ready").exists)
    await tree.close()
    assert sleepers(tmp_path) == []


async def test_a_command_gets_no_signal_that_the_runner_ignores(tmp_path: Path) -> None:
    tree = ProcessTree(["sh", "-c", "kill -TERM $$; exit 3"], tmp_path, ENVIRONMENT, subprocess.DEVNULL, 0.2)
    assert await tree.exit_code() == -signal.SIGTERM
    await tree.close()


@pytest.mark.parametrize("kill", ["kill -9 $PPID; exec sleep 60", "pkill -9 -f 'word {}'"])
async def test_a_command_that_kills_what_started_it_leaves_nothing(tmp_path: Path, kill: str) -> None:
    script = f"env -i setsid sleep 60 & {kill.format(tmp_path.name)}"
    tree = ProcessTree(["sh", "-c", script], tmp_path, ENVIRONMENT, subprocess.DEVNULL, 0.2)
    assert await tree.exit_code() == -signal.SIGKILL
    names = [psutil.Process(pid).name() for pid in sleepers(tmp_path)]
    assert "slipway-step" in names and not any(name.startswith("python") for name in names)
    await tree.close()
    assert (sleepers(tmp_path), tree.lost) == ([], False)


async def test_a_command_that_is_not_there_says_so(tmp_path: Path) -> None:
    with tempfile.TemporaryFile() as output:
        tree = ProcessTree(["no-such-program"], tmp_path, ENVIRONMENT, output.fileno(), 0.2)
        assert await tree.exit_code() == 127
        await tree.close()
        output.seek(0)
        assert output.read() == b"no-such-program: No such file or directory\n"


def test_a_killed_service_leaves_nothing_of_its_trees(tmp_path: Path) -> None:
    service = subprocess.Popen([sys.executable, "-c", SERVICE, str(tmp_path)])
    try:
        eventually(lambda: len(sleepers(tmp_path)) == 5)  # runner, parent, shell, and two that sleep
    finally:
        service.kill()
        service.wait()
    eventually(lambda: sleepers(tmp_path) == [])
