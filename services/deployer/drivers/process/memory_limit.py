"""Defines the interface that holds an instance's processes to its memory limit: a control group, or else a guard."""

from collections.abc import Iterable
from typing import Protocol

from services.deployer.drivers.memory_use import MemoryUse
from services.deployer.drivers.process.linux_process import ProcessStat
from services.deployer.drivers.process.record import ProcessRecord


class MemoryLimits(Protocol):
    """Limits the memory of instances. All calls block and are idempotent; their state is in the record and in the
    kernel, so a new object continues where the last one stopped. `remove` is the last call. They raise OSError where
    the machine refuses.
    """

    def change(self, record: ProcessRecord, memory: int) -> None:
        """Changes the limit to `memory` bytes; the caller updates the record afterwards. Raises DriverError if the
        instance cannot be held to that.
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
