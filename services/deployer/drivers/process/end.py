"""Ends instances that run as processes: one of them, or all of a home (the platform's data folder)."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from services.deployer.drivers.cgroup_files import PROCESSES
from services.deployer.drivers.driver import RunningInstance
from services.deployer.drivers.process.linux_process import ProcessStat, marked_with_each, process_stat, session_pids
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
Left = tuple[ProcessRecord, list[ProcessStat]]  # an instance that has not ended, with its processes


def running_in(root: Path) -> list[RunningInstance]:
    """Returns the instances of which a process runs and whose folder is below `root`, even those without a record. It
    finds the processes by the folder's path in their environment, and reads all processes once.
    """
    found = []
    for value in pids_by_value(MARKER):
        if (path := Path(value)).parent == root:
            record = InstanceFolder(path).read()
            release, artifact = (record.release, record.artifact) if record else ("", "")
            found.append(RunningInstance(value, path.name, release=release, artifact=artifact))
    return found


def record_of(root: Path, instance_id: str) -> ProcessRecord:
    """Returns the instance's record. If its folder is gone, returns a record with only its id and its mark (a variable
    in the environment of its processes), by which the processes can be found.
    """
    path = root / instance_id
    lost = ProcessRecord(id=instance_id, marker=marker_of(path), port=0, memory=0, started_at=now(), boot_id="")
    return InstanceFolder(path).read() or lost


def remains(record: ProcessRecord) -> bool:
    """Returns True if any process of the instance still runs, even if its first process has ended."""
    return bool(_left([record]))


def kill(record: ProcessRecord) -> None:
    _signal_all([record], signal.SIGKILL)


def _signal_all(records: Sequence[ProcessRecord], number: signal.Signals, known: Iterable[Left] = ()) -> list[Left]:
    """Sends the signal to all processes that are left of the instances of `records`; returns these processes by record.
    `known` holds processes of the instances that were found before.
    """
    left = _left(records, known, search=True)
    for record, processes in left:
        _signal(record, number, processes)
    return left


def _signal(record: ProcessRecord, number: signal.Signals, processes: Iterable[ProcessStat]) -> None:
    """Sends the signal to the instance's process group if its first process still runs (afterwards the group's id may
    belong to another program), and to those of `processes` that are in other groups.
    """
    leader = record.pid if record.runs() else None
    with contextlib.suppress(ProcessLookupError):
        if leader is not None:
            os.killpg(leader, number)
    for stat in processes:
        with contextlib.suppress(ProcessLookupError):
            if leader is None or os.getpgid(stat.pid) != leader:
                os.kill(stat.pid, number)


async def end(record: ProcessRecord, grace_s: float) -> None:
    """Ends the instance: sends SIGTERM, and SIGKILL after `grace_s` seconds. Returns when none of its processes is
    left.
    """
    deadline = time.monotonic() + grace_s
    left = await asyncio.to_thread(_signal_all, [record], signal.SIGTERM)
    while left := await asyncio.to_thread(_left, [record], left):
        if time.monotonic() >= deadline:
            left = await asyncio.to_thread(_signal_all, [record], signal.SIGKILL, left)
        await asyncio.sleep(POLL_S)


def stop_instances(home: Path, timeout_s: float) -> int:
    """Ends every instance whose record is in `home`, the platform's data folder, once the deployer has ended: SIGTERM
    to all, SIGKILL to those that are left after `timeout_s` seconds. Returns how many instances were running. Their
    records say that the platform stopped them, so that the next deployer starts them again and does not count this as a
    crash.
    """
    root, running = instances_root(home), []
    for instance_id in instance_ids_in(root):
        folder = InstanceFolder(root / instance_id)
        record = folder.read()
        if record is not None and record.runs():
            with contextlib.suppress(OSError):  # on a full disk it counts as ended by itself
                folder.write(record.model_copy(update={"stopped": True}))
            running.append(record)
    for number, wait_s in ((signal.SIGTERM, timeout_s), (signal.SIGKILL, 5.0)):
        _until_gone(running, number, wait_s)
    remove_parents(home)
    return len(running)


def _until_gone(records: list[ProcessRecord], number: signal.Signals, wait_s: float) -> None:
    left = _signal_all(records, number)
    deadline = time.monotonic() + wait_s
    while left and time.monotonic() < deadline:
        time.sleep(POLL_S)
        left = _left([record for record, _ in left], left)


def _left(records: Sequence[ProcessRecord], known: Iterable[Left] = (), *, search: bool = False) -> list[Left]:
    """Returns those of `records` of which a process still runs, each with its processes: the ones in `known` that still
    run, and those that are found now. Since it then reads all processes of the machine, it searches only for records
    without a process in `known` that still runs, or, with `search`, for all. It reads all processes once, and once more
    for records without a process, because one that is just starting may be missing at the first reading.
    """
    living = {record.id: still for record, processes in known if (still := _still_living(processes))}
    left = [] if search else [(record, living[record.id]) for record in records if record.id in living]
    looked_for = [record for record in records if search or record.id not in living]
    for wait_s in (0.0, LOOK_AGAIN_S):
        if not looked_for:
            break
        time.sleep(wait_s)
        found = _found(looked_for)
        for record in looked_for:
            processes = {stat.pid: stat for stat in [*living.get(record.id, ()), *found[record.id]]}
            if processes or record.runs():
                left.append((record, list(processes.values())))
        kept = {record.id for record, _ in left}
        looked_for = [record for record in looked_for if record.id not in kept]
    return left


def _found(records: Sequence[ProcessRecord]) -> dict[str, list[ProcessStat]]:
    """Returns instance id → its processes. It finds those with the instance's mark in their environment (which a
    process may overwrite), those in the session of its first process while that one runs, and those in its control
    group, which they cannot leave.
    """
    marked = marked_with_each(record.marker for record in records)
    sessions = session_pids({record.pid for record in records if record.pid is not None and record.runs()})
    found = {}
    for record in records:
        pids = [*sessions.get(record.pid or 0, ()), *_pids_in(record.group)]
        others = [stat for pid in pids if (stat := process_stat(pid)) is not None]
        found[record.id] = [*marked.get(record.marker, ()), *others]
    return found


def _pids_in(group: str) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(pid) for pid in (Path(group) / PROCESSES).read_text().split()] if group else []
    return []


def _still_living(processes: Iterable[ProcessStat]) -> list[ProcessStat]:
    """Returns those of the processes that have not ended. A later process that has got the same pid does not count."""
    now_there = ((stat, process_stat(stat.pid)) for stat in processes)
    return [stat for stat, there in now_there if there is not None and there.start_ticks == stat.start_ticks]
