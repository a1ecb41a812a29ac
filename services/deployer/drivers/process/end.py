"""Ends instances that run as processes: one, or all of a home (the platform's folder)."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path

from services.deployer.drivers.driver import RunningInstance
from services.deployer.drivers.process.linux_process import ProcessStat, marked_with, marked_with_each
from services.deployer.drivers.process.memory_cgroup import remove_parents
from services.deployer.drivers.process.record import (
    MARKER,
    InstanceFolder,
    ProcessRecord,
    instance_ids_in,
    instances_root,
    marker_of,
)
from shared.clock import now
from shared.host.process_search import LOOK_AGAIN_S, pids_by_value

POLL_S = 0.05


def running_in(root: Path) -> list[RunningInstance]:
    """Returns everything that runs with the mark of an instance whose folder is below `root`. Reads all processes
    once."""
    found = []
    for value in pids_by_value(MARKER):
        if (path := Path(value)).parent == root:
            record = InstanceFolder(path).read()
            release, artifact = (record.release, record.artifact) if record else ("", "")
            found.append(RunningInstance(value, path.name, release=release, artifact=artifact))
    return found


def record_of(root: Path, instance_id: str) -> ProcessRecord:
    """Returns the instance's record; if its folder is gone, a record that holds only its id and mark, by which its
    processes can be found."""
    path = root / instance_id
    lost = ProcessRecord(id=instance_id, marker=marker_of(path), port=0, memory=0, started_at=now(), boot_id="")
    return InstanceFolder(path).read() or lost


def remains(record: ProcessRecord) -> bool:
    """Returns True if any process of the instance still runs, even if its leader has ended."""
    return record.runs() or bool(marked_with(record.marker))


def terminate(record: ProcessRecord) -> None:
    _signal(record, signal.SIGTERM, marked_with(record.marker))


def kill(record: ProcessRecord) -> None:
    _signal(record, signal.SIGKILL, marked_with(record.marker))


def _signal(record: ProcessRecord, number: signal.Signals, processes: Iterable[ProcessStat]) -> None:
    """Sends the signal to the instance's process group while its leader runs (later the group's id may be reused), and
    to those of its `processes` that are in other sessions.
    """
    leader = record.pid if record.runs() else None
    with contextlib.suppress(ProcessLookupError):
        if leader is not None:
            os.killpg(leader, number)
    for stat in processes:
        if stat.session != leader:
            with contextlib.suppress(ProcessLookupError):
                os.kill(stat.pid, number)


async def end(record: ProcessRecord, grace_s: float) -> None:
    """Sends SIGTERM, and SIGKILL after `grace_s` seconds; returns when nothing of the instance remains."""
    deadline = time.monotonic() + grace_s
    await asyncio.to_thread(terminate, record)
    while await asyncio.to_thread(remains, record):
        if time.monotonic() >= deadline:
            await asyncio.to_thread(kill, record)
        await asyncio.sleep(POLL_S)


def stop_instances(home: Path, timeout_s: float) -> int:
    """Ends every instance of the home after the deployer has ended: SIGTERM to all, SIGKILL to what is left after
    `timeout_s` seconds. Returns the number of instances that ran. Their records say that the platform stopped them, so
    that the next deployer starts them again and counts no crash.
    """
    root, running = instances_root(home), []
    for instance_id in instance_ids_in(root):
        folder = InstanceFolder(root / instance_id)
        record = folder.read()
        if record is not None and record.runs():
            folder.write(record.model_copy(update={"stopped": True}))
            running.append(record)
    for number, wait_s in ((signal.SIGTERM, timeout_s), (signal.SIGKILL, 5.0)):
        _until_gone(running, number, wait_s)
    remove_parents(home)
    return len(running)


def _until_gone(records: list[ProcessRecord], number: signal.Signals, wait_s: float) -> None:
    left = _processes_left(records)
    for record, processes in left:
        _signal(record, number, processes)
    deadline = time.monotonic() + wait_s
    while left and time.monotonic() < deadline:
        time.sleep(POLL_S)
        left = _processes_left(record for record, _ in left)


def _processes_left(records: Iterable[ProcessRecord]) -> list[tuple[ProcessRecord, list[ProcessStat]]]:
    """Returns the records of which a process still runs, each with the processes that have its marker. Reads all
    processes once, and once more for the records for which it found none: a process that is just starting may be
    missing in the first reading.
    """
    looked_for, left = list(records), []
    for _ in range(2):
        processes = marked_with_each(record.marker for record in looked_for)
        left += [
            (each, processes.get(each.marker, [])) for each in looked_for if each.runs() or processes.get(each.marker)
        ]
        kept = {record.marker for record, _ in left}
        looked_for = [record for record in looked_for if record.marker not in kept]
        if not looked_for:
            break
        time.sleep(LOOK_AGAIN_S)
    return left
