"""Reads processes from Linux's /proc: identity, session, CPU time and memory."""

import contextlib
import os
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from shared.host.process_search import marked_pids

TICKS_S = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
PROC = Path("/proc")


@dataclass(frozen=True)
class ProcessStat:
    """The fields of `/proc/<pid>/stat` that the driver uses."""

    pid: int
    state: str
    session: int
    start_ticks: int
    """Start time since boot, in ticks; tells the process from a later one with the same pid."""
    cpu_ticks: int
    """CPU time in ticks, including children that have ended and were waited for."""
    resident: int
    """Resident memory, in bytes."""


def boot_id() -> str:
    """Returns the kernel's boot id, which changes with each start of the machine."""
    return (PROC / "sys/kernel/random/boot_id").read_text().strip()


def process_stat(pid: int) -> ProcessStat | None:
    """Returns the process's stat fields; None if it does not exist or is a zombie. Reaps a zombie child."""
    stat = _read(pid)
    if stat is not None and stat.state in "ZX":
        with contextlib.suppress(ChildProcessError):  # only if it is our own child does it wait for us
            os.waitpid(pid, os.WNOHANG)
        return None
    return stat


def _read(pid: int) -> ProcessStat | None:
    try:
        text = (PROC / str(pid) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()  # the name before it may hold spaces and brackets
    cpu_ticks = sum(int(ticks) for ticks in fields[11:15])
    return ProcessStat(pid, fields[0], int(fields[3]), int(fields[19]), cpu_ticks, int(fields[21]) * PAGE)


class Sessions:
    """Finds the processes of given sessions repeatedly. It does not read again a process that was in none of them the
    last time, as no process can join a session later.
    """

    def __init__(self) -> None:
        self._sessions: set[int] = set()
        self._strangers: set[int] = set()

    def members(self, sessions: Collection[int]) -> dict[int, list[ProcessStat]]:
        """Returns the processes of each session by its id (the leader's pid). It includes zombies, since their CPU time
        is added to their parent's only once that has waited for them.
        """
        if not self._sessions.issuperset(sessions):  # a member of a new session may have been taken for a stranger
            self._strangers = set()
        self._sessions = set(sessions)
        found: dict[int, list[ProcessStat]] = {session: [] for session in sessions}
        strangers = set()
        for pid in map(int, filter(str.isdigit, os.listdir(PROC))):
            if pid in self._strangers:
                strangers.add(pid)
            elif (stat := _read(pid)) is not None:
                found[stat.session].append(stat) if stat.session in found else strangers.add(pid)
        self._strangers = strangers
        return found


def proportional_memory(members: Iterable[ProcessStat]) -> int:
    """Returns the sum of proportional memory (PSS) in bytes; resident memory counts where PSS is unreadable."""
    return sum(_proportional(stat) for stat in members)


def _proportional(stat: ProcessStat) -> int:
    with contextlib.suppress(OSError):
        for line in (PROC / str(stat.pid) / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return stat.resident


def marked_with(marker: str) -> list[ProcessStat]:
    """Returns the processes that have `marker` (`NAME=value`) in their environment."""
    name, _, value = marker.partition("=")
    return [stat for pid in marked_pids(name, value) if (stat := process_stat(pid)) is not None]
