"""What holds the processes of an instance to its memory limit: a control group, or else a guard."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from services.deployer.driver import DriverError
from services.deployer.linux_process import ProcessStat
from services.deployer.process_record import ProcessRecord
from shared.manifest import size

HEADROOM = 0.8


@dataclass(frozen=True)
class MemoryUse:
    """`working_set` in bytes; `oom_kills` in the life of the instance; `pressure` in percent, None: nobody tells."""

    working_set: int
    oom_kills: int
    pressure: float | None = None


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


def check_headroom(instance_id: str, before: int, memory: int, working_set: int) -> None:
    """Raises DriverError if lowering the limit from `before` to `memory` bytes would soon kill the instance."""
    if memory < before and working_set > HEADROOM * memory:
        raise DriverError(
            f"{instance_id} uses {size(working_set)}, more than {HEADROOM:.0%} of {size(memory)}; "
            f"it keeps its limit of {size(before)}".replace("%", " %")
        )
