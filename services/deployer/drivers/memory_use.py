"""Defines an instance's memory use as every driver reports it, and checks that a lower limit leaves headroom."""

from dataclasses import dataclass

import psutil

from services.deployer.drivers.driver import DriverError
from shared.manifest import size

HEADROOM = 0.8


@dataclass(frozen=True)
class MemoryUse:
    """One reading of an instance's memory: what it uses, and what the kernel has counted."""

    working_set: int
    """Bytes."""
    oom_kills: int
    """Number of kills at the memory limit since the instance was started."""
    pressure: float | None = None
    """PSI `some avg10` in percent; None where it is not reported."""


def check_headroom(instance_id: str, before: int, memory: int, working_set: int) -> None:
    """Raises DriverError if the new limit `memory` is lower than the limit `before`, and `working_set` is over 80 % of
    it. All are in bytes."""
    if memory < before and working_set > HEADROOM * memory:
        raise DriverError(
            f"{instance_id} uses {size(working_set)}, more than {HEADROOM:.0%} of {size(memory)}; "
            f"it keeps its limit of {size(before)}".replace("%", " %")
        )


def check_machine(memory: int, machine: int | None = None) -> None:
    """Raises DriverError if a limit of `memory` bytes is above all that the machine has; without `machine`, its bytes
    are those of this one. Such a limit would hold nothing.
    """
    total = psutil.virtual_memory().total if machine is None else machine
    if memory > total:
        raise DriverError(
            f"resources.memory is {size(memory)}, but the machine has {size(total)} in all; lower it in slipway.yml"
        )
