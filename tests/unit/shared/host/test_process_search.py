"""Processes found by their mark, also when they have left their session."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.host.process_search import marked_pids

NAME = "SLIPWAY_TEST_MARK"


@pytest.fixture
def marked(tmp_path: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A process with a child in another session; both carry the mark."""
    code = (
        "import subprocess\n"
        "child = subprocess.Popen(['sleep', '60'], start_new_session=True)\n"
        "print('up', flush=True)\n"
        "child.wait()\n"
    )
    environment = os.environ | {NAME: str(tmp_path)}
    process = subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    yield process
    for pid in marked_pids(NAME, str(tmp_path)):
        os.kill(pid, 9)
    process.stdout.close()
    process.wait(10)


def test_all_that_carry_the_mark_are_found_and_no_others(marked: "subprocess.Popen[bytes]", tmp_path: Path) -> None:
    found = marked_pids(NAME, str(tmp_path))
    assert marked.pid in found
    assert len(found) == 2
    assert marked_pids(NAME, str(tmp_path / "other")) == []


def test_a_zombie_is_not_found(marked: "subprocess.Popen[bytes]", tmp_path: Path) -> None:
    for pid in marked_pids(NAME, str(tmp_path)):
        os.kill(pid, 9)
    os.waitid(os.P_PID, marked.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and nobody has collected it
    assert marked.pid not in marked_pids(NAME, str(tmp_path))
