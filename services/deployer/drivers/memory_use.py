"""Memory use of an instance as every driver reports it, and the headroom that a lower limit must leave."""

from dataclasses import dataclass

from services.deployer.drivers.driver import DriverError
from shared.manifest import size

HEADROOM = 0.8


@dataclass(frozen=True)
class MemoryUse:
    """`working_set` in bytes; `oom_kills` in the life of the instance; `pressure` in percent, None: nobody tells."""

    working_set: int
    oom_kills: int
    pressure: float | None = None


def check_headroom(instance_id: str, before: int, memory: int, working_set: int) -> None:
    """Raises DriverError if lowering the limit from `before` to `memory` bytes would soon kill the instance."""
    if memory < before and working_set > HEADROOM * memory:
        raise DriverError(
            f"{instance_id} uses {size(working_set)}, more than {HEADROOM:.0%} of {size(memory)}; "
            f"it keeps its limit of {size(before)}".replace("%", " %")
        )
