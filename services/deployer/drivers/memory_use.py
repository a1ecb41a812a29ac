"""Defines an instance's memory use as every driver reports it, and checks limits: a lower one leaves
headroom, and none is above what the machine has."""

from dataclasses import dataclass

import psutil

from services.deployer.drivers.driver import DriverError, InstanceSpec
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


def check_limit(instance_id: str, before: int, memory: int, working_set: int, machine: int | None = None) -> None:
    """Raises DriverError if the new limit `memory` is above all that the machine has, or lower than the limit `before`
    with `working_set` over 80 % of it. All are in bytes; without `machine`, its memory is that of this one."""
    keeps = f"it keeps its limit of {size(before)}"
    if memory > (total := _total(machine)):
        raise DriverError(f"{size(memory)} is more than the {size(total)} that the machine has in all; {keeps}")
    if memory < before and working_set > HEADROOM * memory:
        used = f"{instance_id} uses {size(working_set)}, more than {HEADROOM:.0%} of {size(memory)}"
        raise DriverError(f"{used}; {keeps}".replace("%", " %"))


def check_machine(spec: InstanceSpec, machine: int | None = None) -> None:
    """Raises DriverError if the spec is of a new release, and its memory limit above all that the machine has, as that
    would hold nothing; without `machine`, its bytes are those of this one.
    """
    if spec.is_new and spec.memory > (total := _total(machine)):
        raise DriverError(
            f"resources.memory is {size(spec.memory)}, but the machine has {size(total)} in all; "
            "lower it in slipway.yml"
        )


def _total(machine: int | None) -> int:
    return int(psutil.virtual_memory().total) if machine is None else machine
