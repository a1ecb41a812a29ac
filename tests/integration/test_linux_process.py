"""The processes of a session, and the memory that they use, are found."""

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from services.deployer.drivers.process.end import end
from services.deployer.drivers.process.linux_process import (
    boot_id,
    marked_with_each,
    proportional_memory,
    resident_memory,
    session_members,
    session_pids,
    stat_of,
)
from services.deployer.drivers.process.record import ProcessRecord, marker_of
from shared.clock import now


def pids(session: int) -> list[int]:
    return session_pids([session])[session]


def test_a_session_is_its_leader_and_the_leaders_children_until_they_have_ended() -> None:
    command = "read line; sleep 60 & read line; wait"
    leader = subprocess.Popen(["sh", "-c", command], start_new_session=True, stdin=subprocess.PIPE)
    try:
        assert leader.stdin is not None
        assert pids(leader.pid) == [leader.pid]
        leader.stdin.write(b"\n")
        leader.stdin.flush()
        deadline = time.monotonic() + 5
        while len(pids(leader.pid)) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(pids(leader.pid)) == 2
    finally:
        os.killpg(leader.pid, 9)
        leader.communicate()
    deadline = time.monotonic() + 5  # its child was killed too, and takes a moment
    while pids(leader.pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert pids(leader.pid) == []


def test_of_what_is_shared_only_a_part_counts() -> None:
    [own] = [stat for stat in session_members([os.getsid(0)])[os.getsid(0)] if stat.pid == os.getpid()]
    assert 0 < proportional_memory([own]) <= own.resident
    assert abs(resident_memory(os.getpid()) - own.resident) < 2**22


def test_a_process_that_is_gone_has_nothing() -> None:
    child = subprocess.Popen(["true"])
    child.wait()
    assert (stat_of(child.pid), resident_memory(child.pid)) == (None, 0)


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Returns a list that gets an item at each reading of all processes."""
    looks: list[int] = []
    inner = psutil.process_iter

    def look() -> Iterator[psutil.Process]:
        looks.append(1)
        return inner()

    monkeypatch.setattr(psutil, "process_iter", look)
    return looks


def test_processes_of_many_markers_are_found_by_one_look(looks: list[int]) -> None:
    values = ["one", "two", "three"]
    started = {each: subprocess.Popen(["sleep", "60"], env={**os.environ, "TEST_MARK": each}) for each in values}
    try:
        deadline = time.monotonic() + 5
        while True:
            looks.clear()
            found = marked_with_each([*(f"TEST_MARK={each}" for each in values), "TEST_MARK=none"])
            if len(found) == len(values) or time.monotonic() > deadline:
                break
            time.sleep(0.01)
    finally:
        for process in started.values():
            process.kill()
            process.wait()
    pids_found = {marker: [stat.pid for stat in stats] for marker, stats in found.items()}
    assert pids_found == {f"TEST_MARK={each}": [process.pid] for each, process in started.items()}
    assert len(looks) == 1


@pytest.mark.anyio
async def test_an_instance_that_takes_its_time_to_end_is_searched_for_at_the_beginning_and_the_end(
    tmp_path: Path, looks: list[int]
) -> None:
    slow = "trap 'sleep 1; exit' TERM; echo; read line"
    marker = marker_of(tmp_path)
    name, _, value = marker.partition("=")
    with subprocess.Popen(
        ["bash", "-c", slow],
        env={**os.environ, name: value},
        start_new_session=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        first = stat_of(process.pid)
        assert process.stdout is not None and first is not None
        process.stdout.readline()
        record = ProcessRecord(
            id="slow-r1-1",
            marker=marker,
            port=0,
            memory=0,
            started_at=now(),
            boot_id=boot_id(),
            pid=process.pid,
            start_ticks=first.start_ticks,
        )
        began = time.monotonic()
        await end(record, grace_s=30)
        assert time.monotonic() - began >= 1
    assert len(looks) == 3  # for the signal; and twice once what had been found has ended
