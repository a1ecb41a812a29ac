"""Defines the interface that holds an instance's processes to its memory limit: a control group, or else a guard."""

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from services.deployer.drivers.memory_use import MemoryUse
from services.deployer.drivers.process.linux_process import ProcessStat
from services.deployer.drivers.process.record import ProcessRecord


class MemoryLimits(Protocol):
    """Limits the memory of instances. All calls block and are idempotent; their state is in the record and in the
    kernel, so a new object continues where the last one stopped. Order: `make`, any of the others, `remove`. They raise
    OSError where the machine refuses.
    """

    def make(self, instance_id: str, memory: int) -> Path | None:
        """Prepares the limit of `memory` bytes before the start. Returns the file into which the first process must
        write its own pid before anything else; None if it need not.
        """
        ...

    def change(self, record: ProcessRecord, memory: int) -> None:
        """Changes the limit to `memory` bytes; the caller updates the record afterwards. Raises DriverError if the
        instance cannot be held to that.
        """
        ...

    def use(self, record: ProcessRecord, members: Iterable[ProcessStat]) -> MemoryUse:
        """Returns the memory use of a running instance; `members` are the processes of its session."""
        ...

    def exceeding(self, records: Iterable[ProcessRecord]) -> list[ProcessRecord]:
        """Returns the instances to kill now, if the kernel does not enforce the limit; call it about twice a second
        with all running ones.
        """
        ...

    def oom_kills(self, record: ProcessRecord) -> int:
        """Returns the number of kills at the limit, also for an ended instance until `remove`."""
        ...

    def remove(self, record: ProcessRecord) -> None:
        """Removes the limit of an instance whose processes have all ended."""
        ...
