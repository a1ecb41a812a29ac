"""Defines an instance's memory use as every driver reports it, and checks new memory limits."""

from dataclasses import dataclass

import psutil

from services.deployer.drivers.driver import DriverError
from shared.manifest import size

HEADROOM = 0.8


@dataclass(frozen=True)
class MemoryUse:
    """Holds one reading of an instance's memory use."""

    working_set: int
    """Memory in use without page cache that the kernel would drop first, in bytes."""
    oom_kills: int
    """Number of kills at the memory limit since the instance was started."""
    pressure: float | None = None
    """Share of the last 10 s in which processes of the instance waited for memory, in percent (PSI `some avg10`); None
    if unknown.
    """


def check_headroom(instance_id: str, before: int, memory: int, working_set: int) -> None:
    """Raises DriverError if the new limit `memory` is lower than the present limit `before` and leaves too little room,
    because `working_set` exceeds 80 % of it. All three are in bytes.
    """
    if memory < before and working_set > HEADROOM * memory:
        raise DriverError(
            f"{instance_id} uses {size(working_set)}, more than {HEADROOM:.0%} of {size(memory)}; "
            f"it keeps its limit of {size(before)}".replace("%", " %")
        )


def check_machine(memory: int, machine: int | None = None) -> None:
    """Raises DriverError if a limit of `memory` bytes exceeds the machine's memory, and so would limit nothing.
    `machine` is that memory in bytes; without it, this machine's is used.
    """
    total = psutil.virtual_memory().total if machine is None else machine
    if memory > total:
        raise DriverError(
            f"resources.memory is {size(memory)}, but the machine has {size(total)} in all; lower it in slipway.yml"
        )
