"""Limits memory without the kernel: the guard measures sessions of processes repeatedly, and reports those that stay
above their limit. Between two measurements an instance may use more.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass

from services.deployer.drivers.memory_use import MemoryUse, check_limit
from services.deployer.drivers.process.linux_process import (
    ProcessStat,
    proportional_memory,
    resident_memory,
    session_members,
    session_pids,
    stat_of,
)
from services.deployer.drivers.process.record import ProcessRecord

LOOKS_ALLOWED = 1
KEPT_S = 30.0


@dataclass(frozen=True)
class _Reading:
    resident: tuple[tuple[int, int], ...]
    """(pid, resident memory in bytes) of each process."""
    proportional: int
    at: float


class GuardLimits:
    """Implements `MemoryLimits` by measuring. `exceeding` returns the instances above their limit; the driver then
    records that it kills them, and does so.
    """

    def __init__(self) -> None:
        self._looks_over: dict[str, int] = {}
        self._readings: dict[str, _Reading] = {}

    def change(self, record: ProcessRecord, memory: int) -> None:
        session = record.pid or 0
        members = session_members([session])[session]
        check_limit(record.id, record.memory, memory, proportional_memory(members))

    def use(self, record: ProcessRecord, members: Iterable[ProcessStat]) -> MemoryUse:
        """Returns the memory of `members` (the processes of the instance) as the working set, with shared pages divided
        among the processes that share them (PSS). The kernel takes some 0.3 ms for each process to sum this up, so it
        is read again only if the resident memory of a process has changed, or after 30 s.
        """
        members = list(members)
        resident, now = tuple((stat.pid, stat.resident) for stat in members), time.monotonic()
        reading = self._readings.get(record.id)
        if reading is None or reading.resident != resident or now - reading.at >= KEPT_S:
            reading = self._readings[record.id] = _Reading(resident, proportional_memory(members), now)
        return MemoryUse(reading.proportional, record.oom_kills)

    def exceeding(self, records: Iterable[ProcessRecord]) -> list[ProcessRecord]:
        """Returns those of `records` whose instances are running and were above their memory limit in this call and in
        the one before. The caller calls it twice a second, with the records of all instances that may be running.
        """
        candidates = [(record.pid, record) for record in records if record.pid is not None]
        pids = session_pids({session for session, _ in candidates}) if candidates else {}
        over = [record for session, record in candidates if _is_over(record, pids[session])]
        self._looks_over = {record.id: self._looks_over.get(record.id, 0) + 1 for record in over}
        return [record for record in over if self._looks_over[record.id] > LOOKS_ALLOWED]

    def oom_kills(self, record: ProcessRecord) -> int:
        return record.oom_kills

    def remove(self, record: ProcessRecord) -> None:
        self._readings.pop(record.id, None)


def _is_over(record: ProcessRecord, pids: Iterable[int]) -> bool:
    """Returns True if the instance is running and the memory of its session exceeds the limit; shared pages count once
    (PSS). It reads PSS only if the sum of resident memory, which is cheaper to read, exceeds the limit.
    """
    if sum(map(resident_memory, pids)) <= record.memory or not record.runs():
        return False
    return proportional_memory(stat for pid in pids if (stat := stat_of(pid)) is not None) > record.memory
