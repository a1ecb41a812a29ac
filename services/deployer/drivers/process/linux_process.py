"""Reads processes from Linux's /proc: start time, session, CPU time and memory."""

import contextlib
import os
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from services.deployer.drivers.kernel_file import kernel_file
from shared.host.process_search import marked_pids, pids_by_value

TICKS_S = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
PROC = Path("/proc")


@dataclass(frozen=True)
class ProcessStat:
    """Holds the fields of `/proc/<pid>/stat` that the driver uses. `session` is the pid of the process that leads its
    session.
    """

    pid: int
    state: str
    session: int
    start_ticks: int
    """Start of the process since boot, in ticks. It distinguishes the process from a later one with the same pid."""
    cpu_ticks: int
    """CPU time in ticks, with that of ended children that the process has waited for."""
    resident: int
    """Resident memory, in bytes."""


@cache
def boot_id() -> str:
    """Returns the kernel's boot id, which changes at each start of the machine."""
    return (PROC / "sys/kernel/random/boot_id").read_text().strip()


def process_stat(pid: int) -> ProcessStat | None:
    """Returns the process's fields; None if it does not exist or is a zombie. A zombie that is a child of this process
    is removed.
    """
    stat = stat_of(pid)
    if stat is not None and stat.state in "ZX":
        with contextlib.suppress(ChildProcessError):  # only a child of this process waits to be collected
            os.waitpid(pid, os.WNOHANG)
        return None
    return stat


def stat_of(pid: int) -> ProcessStat | None:
    """Returns the process's fields, also those of a zombie; None if it does not exist."""
    content = _content(f"/proc/{pid}/stat")
    if not content:
        return None
    fields = content.rpartition(b")")[2].split()  # the program's name in brackets may hold spaces and brackets
    cpu_ticks = sum(int(ticks) for ticks in fields[11:15])
    return ProcessStat(pid, fields[0].decode(), int(fields[3]), int(fields[19]), cpu_ticks, int(fields[21]) * PAGE)


def resident_memory(pid: int) -> int:
    """Returns the process's resident memory in bytes; 0 if it does not exist. It takes half the time of `stat_of`."""
    content = _content(f"/proc/{pid}/statm")
    return int(content.split()[1]) * PAGE if content else 0


def session_pids(sessions: Collection[int]) -> dict[int, list[int]]:
    """Returns session (pid of the process that leads it) → the pids of its processes. Zombies are among them, because
    their CPU time is not yet counted to their parent. It takes less than a microsecond for each process of the machine.
    """
    found: dict[int, list[int]] = {session: [] for session in sessions}
    for pid in map(int, filter(str.isdigit, os.listdir(PROC))):
        try:
            session = os.getsid(pid)
        except ProcessLookupError:
            continue  # the process has ended in the meantime
        if session in found:
            found[session].append(pid)
    return found


def session_members(sessions: Collection[int]) -> dict[int, list[ProcessStat]]:
    """Returns session (pid of the process that leads it) → its processes with their fields."""
    return {
        session: [stat for pid in pids if (stat := stat_of(pid)) is not None]
        for session, pids in session_pids(sessions).items()
    }


def _content(path: str) -> bytes:
    """Returns the content of a file of a process; empty if the process does not exist."""
    try:
        return kernel_file(path)
    except (FileNotFoundError, ProcessLookupError):
        return b""


def proportional_memory(members: Iterable[ProcessStat]) -> int:
    """Returns the memory of the processes in bytes, with shared pages divided among the processes that share them
    (PSS). Of a process whose PSS is not readable, the resident memory counts.
    """
    return sum(_proportional(stat) for stat in members)


def _proportional(stat: ProcessStat) -> int:
    with contextlib.suppress(OSError):
        for line in (PROC / str(stat.pid) / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return stat.resident


def marked_with_each(markers: Iterable[str]) -> dict[str, list[ProcessStat]]:
    """Returns marker (`NAME=value`) → the processes that have it in their environment. It reads all processes once; a
    process that is just starting may be missing.
    """
    wanted: defaultdict[str, set[str]] = defaultdict(set)
    for marker in markers:
        name, _, value = marker.partition("=")
        wanted[name].add(value)
    return {
        f"{name}={value}": [stat for pid in pids if (stat := process_stat(pid)) is not None]
        for name, values in wanted.items()
        for value, pids in pids_by_value(name, values).items()
    }


def marked_with(marker: str) -> list[ProcessStat]:
    """Returns the processes that have `marker` (`NAME=value`) in their environment."""
    name, _, value = marker.partition("=")
    return [stat for pid in marked_pids(name, value) if (stat := process_stat(pid)) is not None]
