"""Defines an instance's memory use as every driver reports it, and checks new memory limits."""

from dataclasses import dataclass

import psutil

from services.deployer.drivers.driver import DriverError, InstanceSpec
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


def check_limit(instance_id: str, before: int, memory: int, working_set: int, machine: int | None = None) -> None:
    """Raises DriverError if the new limit `memory` exceeds the machine's memory, or if it is lower than the present
    limit `before` and leaves too little room, because `working_set` exceeds 80 % of it. All are in bytes. `machine` is
    the machine's memory; without it, this machine's is used.
    """
    keeps = f"it keeps its limit of {size(before)}"
    if memory > (total := _total(machine)):
        raise DriverError(f"{size(memory)} is more than the {size(total)} that the machine has in all; {keeps}")
    if memory < before and working_set > HEADROOM * memory:
        used = f"{instance_id} uses {size(working_set)}, more than {HEADROOM:.0%} of {size(memory)}"
        raise DriverError(f"{used}; {keeps}".replace("%", " %"))


def check_machine(spec: InstanceSpec, machine: int | None = None) -> None:
    """Raises DriverError if the memory limit of a new release exceeds the machine's memory, and so would limit nothing.
    `machine` is that memory in bytes; without it, this machine's is used.
    """
    if spec.is_new and spec.memory > (total := _total(machine)):
        raise DriverError(
            f"resources.memory is {size(spec.memory)}, but the machine has {size(total)} in all; "
            "lower it in slipway.yml"
        )


def _total(machine: int | None) -> int:
    return int(psutil.virtual_memory().total) if machine is None else machine
