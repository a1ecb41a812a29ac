"""Measures for `make bench-idle` the time from the stack's start to ready, and its memory and CPU while idle."""

import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import psutil

from stack.local.local_stack import LocalStack, local_stack
from stack.local.programs import PROGRAMS

SETTLE_S = 20.0
MIB = 2**20


class IdleRow(NamedTuple):
    """RSS and PSS of a process in MiB, CPU in percent of a core."""

    name: str
    rss: float
    pss: float
    cpu: float


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="slipway-idle-") as home:
        started = time.monotonic()
        with local_stack(Path(home)) as stack:
            ready_s = time.monotonic() - started
            time.sleep(SETTLE_S)
            rows = _measured(_processes(stack))
    print(f"start to ready {ready_s:.1f} s; {SETTLE_S:.0f} s later, CPU over {SETTLE_S:.0f} s:\n")
    print(f"{'process':12} {'RSS MiB':>8} {'PSS MiB':>8} {'CPU %':>6}")
    rows.append(IdleRow("all", sum(r.rss for r in rows), sum(r.pss for r in rows), sum(r.cpu for r in rows)))
    for row in rows:
        print(f"{row.name:12} {row.rss:8.0f} {row.pss:8.0f} {row.cpu:6.1f}")
    print("\nRSS counts a page that processes share in each of them, PSS once in all.")
    return 0


def _processes(stack: LocalStack) -> dict[str, psutil.Process]:
    found = {program: psutil.Process(stack.pid(program)) for program in PROGRAMS}
    supervisor = found["redis"].parent()
    launcher = supervisor.parent() if supervisor else None
    return found | {name: each for name, each in (("supervisord", supervisor), ("launcher", launcher)) if each}


def _measured(processes: dict[str, psutil.Process]) -> list[IdleRow]:
    before = {name: _cpu_s(process) for name, process in processes.items()}
    time.sleep(SETTLE_S)
    rows = []
    for name, process in processes.items():
        memory = process.memory_full_info()
        cpu = 100 * (_cpu_s(process) - before[name]) / SETTLE_S
        rows.append(IdleRow(name, memory.rss / MIB, memory.pss / MIB, cpu))
    return rows


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


if __name__ == "__main__":
    sys.exit(main())
