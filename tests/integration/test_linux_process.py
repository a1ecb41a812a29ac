"""Who belongs to a session, looked up again and again."""

import os
import subprocess
import time

from services.deployer.drivers.process.linux_process import Sessions, proportional_memory


def pids(sessions: Sessions, session: int) -> set[int]:
    return {stat.pid for stat in sessions.members([session])[session]}


def test_who_was_a_stranger_before_its_session_was_asked_for_is_found_and_so_are_its_children() -> None:
    command = "read line; sleep 60 & read line; wait"
    leader = subprocess.Popen(["sh", "-c", command], start_new_session=True, stdin=subprocess.PIPE)
    sessions = Sessions()
    try:
        assert leader.stdin is not None
        assert sessions.members([os.getsid(0)])  # the leader is a stranger there
        assert pids(sessions, leader.pid) == {leader.pid}
        leader.stdin.write(b"\n")
        leader.stdin.flush()
        deadline = time.monotonic() + 5
        while len(pids(sessions, leader.pid)) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(pids(sessions, leader.pid)) == 2
    finally:
        os.killpg(leader.pid, 9)
        leader.communicate()
    deadline = time.monotonic() + 5  # its child was killed too, and takes a moment
    while pids(sessions, leader.pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert pids(sessions, leader.pid) == set()


def test_of_what_is_shared_only_a_part_counts() -> None:
    [own] = [stat for stat in Sessions().members([os.getsid(0)])[os.getsid(0)] if stat.pid == os.getpid()]
    assert 0 < proportional_memory([own]) <= own.resident
