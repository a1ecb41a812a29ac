"""What holds the processes of an instance to its memory limit: a control group, or else a guard."""

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from services.deployer.drivers.memory_use import MemoryUse
from services.deployer.drivers.process.linux_process import ProcessStat
from services.deployer.drivers.process.record import ProcessRecord


class MemoryLimits(Protocol):
    """Blocking calls, safe to repeat; all they know is in the record and in the machine, so a new object goes on where
    the last one stopped. Order: `make`, any of the others, `remove`. They raise OSError where the machine refuses.
    """

    def make(self, instance_id: str, memory: int) -> Path | None:
        """Before the start: the file into which its first process is to write its own id before it does anything else,
        or None if it need not.
        """
        ...

    def change(self, record: ProcessRecord, memory: int) -> None:
        """Before the record says so. Raises DriverError if the instance cannot be held to that many bytes."""
        ...

    def use(self, record: ProcessRecord, members: Iterable[ProcessStat]) -> MemoryUse:
        """Of one that runs. `members`: the processes of its session."""
        ...

    def exceeding(self, records: Iterable[ProcessRecord]) -> list[ProcessRecord]:
        """Those to be killed now, since nobody else does it; to be called about twice a second with all that run."""
        ...

    def oom_kills(self, record: ProcessRecord) -> int:
        """Also of an ended one, until `remove`."""
        ...

    def remove(self, record: ProcessRecord) -> None:
        """Nothing of the instance runs any more."""
        ...
