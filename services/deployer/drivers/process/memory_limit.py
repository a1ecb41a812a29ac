"""Defines the interface that limits the memory of an instance's processes: by a control group, or else a guard."""

from collections.abc import Iterable
from typing import Protocol

from services.deployer.drivers.memory_use import MemoryUse
from services.deployer.drivers.process.linux_process import ProcessStat
from services.deployer.drivers.process.record import ProcessRecord


class MemoryLimits(Protocol):
    """Limits the memory of instances. Calls block, are idempotent, and raise OSError if the machine refuses. All state
    is in the record and the kernel, so a new object continues the old one's work. `remove` is the last call for an
    instance.
    """

    def change(self, record: ProcessRecord, memory: int) -> None:
        """Changes the limit to `memory` bytes; the caller then updates the record. Raises DriverError if the instance
        uses too much or the kernel refuses.
        """
        ...

    def use(self, record: ProcessRecord, members: Iterable[ProcessStat]) -> MemoryUse:
        """Returns the memory use of a running instance; `members` are the processes of its session."""
        ...

    def oom_kills(self, record: ProcessRecord) -> int:
        """Returns the number of kills at the limit, also for an ended instance until `remove`."""
        ...

    def remove(self, record: ProcessRecord) -> None:
        """Removes the limit of an instance whose processes have all ended."""
        ...
