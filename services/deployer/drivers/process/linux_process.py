"""Processes as Linux shows them in /proc: who they are, whoever started them, and what they use."""

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
    """`start_ticks` (field 22 of `stat`) tells one process from the next with the same pid; the machine's clock does
    not move it. `cpu_ticks` includes children that have ended. `resident` in bytes.
    """

    pid: int
    state: str
    session: int
    start_ticks: int
    cpu_ticks: int
    resident: int


def boot_id() -> str:
    """Another one after each start of the machine."""
    return (PROC / "sys/kernel/random/boot_id").read_text().strip()


def process_stat(pid: int) -> ProcessStat | None:
    """None if there is no such process, or only its zombie."""
    try:
        text = (PROC / str(pid) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()  # the name before it may hold spaces and brackets
    if fields[0] in "ZX":
        with contextlib.suppress(ChildProcessError):  # only if it is our own child does it wait for us
            os.waitpid(pid, os.WNOHANG)
        return None
    cpu_ticks = sum(int(ticks) for ticks in fields[11:15])
    return ProcessStat(pid, fields[0], int(fields[3]), int(fields[19]), cpu_ticks, int(fields[21]) * PAGE)


class Sessions:
    """Who belongs to some sessions, looked up again and again: what belonged to none of them at the last look cannot
    join one, and is not read again.
    """

    def __init__(self) -> None:
        self._sessions: set[int] = set()
        self._strangers: set[int] = set()

    def members(self, sessions: Collection[int]) -> dict[int, list[ProcessStat]]:
        """The processes of each session (which is named by its leader's pid)."""
        if not self._sessions.issuperset(sessions):  # a member of a new session may have been taken for a stranger
            self._strangers = set()
        self._sessions = set(sessions)
        found: dict[int, list[ProcessStat]] = {session: [] for session in sessions}
        strangers = set()
        for pid in map(int, filter(str.isdigit, os.listdir(PROC))):
            if pid in self._strangers:
                strangers.add(pid)
            elif (stat := process_stat(pid)) is not None:
                found[stat.session].append(stat) if stat.session in found else strangers.add(pid)
        self._strangers = strangers
        return found


def proportional_memory(members: Iterable[ProcessStat]) -> int:
    """Bytes; what is shared with others counts in parts (PSS). Where that cannot be read, all that is resident."""
    return sum(_proportional(stat) for stat in members)


def _proportional(stat: ProcessStat) -> int:
    with contextlib.suppress(OSError):
        for line in (PROC / str(stat.pid) / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return stat.resident


def marked_with(marker: str) -> list[ProcessStat]:
    """Processes that carry `marker` (`NAME=value`) in their environment."""
    name, _, value = marker.partition("=")
    return [stat for pid in marked_pids(name, value) if (stat := process_stat(pid)) is not None]
