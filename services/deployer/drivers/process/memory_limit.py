"""Defines the interface for limiting the memory of an instance's processes. It has two implementations: control groups,
and a loop that measures and kills (the guard).
"""

from collections.abc import Iterable
from typing import Protocol

from services.deployer.drivers.memory_use import MemoryUse
from services.deployer.drivers.process.linux_process import ProcessStat
from services.deployer.drivers.process.record import ProcessRecord


class MemoryLimits(Protocol):
    """Limits the memory of instances. All calls block, are idempotent, and raise OSError if the machine refuses. All
    state is in the records and the kernel, so a new object continues the work of an old one. `remove` is the last call
    for an instance.
    """

    def change(self, record: ProcessRecord, memory: int) -> None:
        """Changes the limit to `memory` bytes; the caller afterwards updates the record. Raises DriverError if the
        instance uses too much memory or the kernel refuses.
        """
        ...

    def use(self, record: ProcessRecord, members: Iterable[ProcessStat]) -> MemoryUse:
        """Returns the memory use of a running instance. `members` are the processes of its session."""
        ...

    def oom_kills(self, record: ProcessRecord) -> int:
        """Returns how often the instance was killed at its limit. After the instance has ended, it still does so until
        `remove` is called.
        """
        ...

    def remove(self, record: ProcessRecord) -> None:
        """Removes the limit of an instance after all its processes have ended."""
        ...
