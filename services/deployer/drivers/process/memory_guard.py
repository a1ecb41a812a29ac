"""Limits memory without the kernel: a guard measures sessions repeatedly and reports those that stay over their limit.
In between, an instance may use more.
"""

from collections.abc import Iterable

from services.deployer.drivers.memory_use import MemoryUse, check_headroom
from services.deployer.drivers.process.linux_process import ProcessStat, Sessions, proportional_memory
from services.deployer.drivers.process.record import ProcessRecord

LOOKS_ALLOWED = 1


class GuardLimits:
    """`MemoryLimits` by a guard, which reports instances to kill; the driver records each kill, then kills."""

    def __init__(self) -> None:
        self._sessions = Sessions()
        self._looks_over: dict[str, int] = {}

    def change(self, record: ProcessRecord, memory: int) -> None:
        session = record.pid or 0
        check_headroom(record.id, record.memory, memory, proportional_memory(Sessions().members([session])[session]))

    def use(self, record: ProcessRecord, members: Iterable[ProcessStat]) -> MemoryUse:
        return MemoryUse(proportional_memory(members), record.oom_kills)

    def exceeding(self, records: Iterable[ProcessRecord]) -> list[ProcessRecord]:
        """Returns instances over their limit in two calls in a row; call it twice a second with all running ones."""
        by_session = {record.pid: record for record in records if record.pid is not None}
        members = self._sessions.members(by_session)
        over = [record for pid, record in by_session.items() if _is_over(record, members[pid])]
        self._looks_over = {record.id: self._looks_over.get(record.id, 0) + 1 for record in over}
        return [record for record in over if self._looks_over[record.id] > LOOKS_ALLOWED]

    def oom_kills(self, record: ProcessRecord) -> int:
        return record.oom_kills

    def remove(self, record: ProcessRecord) -> None:
        """Does nothing: the guard keeps no state outside the record."""


def _is_over(record: ProcessRecord, members: list[ProcessStat]) -> bool:
    """Returns True if the session's proportional memory (PSS), which counts shared pages once, is over the limit. It is
    read only if the sum of resident memory is over the limit, which is cheaper to read.
    """
    resident = sum(stat.resident for stat in members)
    return resident > record.memory and proportional_memory(members) > record.memory
