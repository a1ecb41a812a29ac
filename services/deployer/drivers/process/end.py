"""Ends instances that run as processes: one, or all of a home (the platform's folder)."""

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from services.deployer.drivers.process.linux_process import marked_with
from services.deployer.drivers.process.memory_cgroup import remove_parents
from services.deployer.drivers.process.record import InstanceFolder, ProcessRecord, instance_ids_in, instances_root

POLL_S = 0.05


def remains(record: ProcessRecord) -> bool:
    """Returns True if any process of the instance still runs, even if its leader has ended."""
    return record.runs() or bool(marked_with(record.marker))


def terminate(record: ProcessRecord) -> None:
    _signal(record, signal.SIGTERM)


def kill(record: ProcessRecord) -> None:
    _signal(record, signal.SIGKILL)


def _signal(record: ProcessRecord, number: signal.Signals) -> None:
    """Sends the signal to the instance's process group while its leader runs (later the group's id may be reused), and
    to its processes in other sessions.
    """
    leader = record.pid if record.runs() else None
    with contextlib.suppress(ProcessLookupError):
        if leader is not None:
            os.killpg(leader, number)
    for stat in marked_with(record.marker):
        if stat.session != leader:
            with contextlib.suppress(ProcessLookupError):
                os.kill(stat.pid, number)


def stop_instances(home: Path, timeout_s: float) -> int:
    """Ends every instance of the home after the deployer has ended: SIGTERM to all, SIGKILL to what is left after
    `timeout_s` seconds. Returns the number of instances that ran. Their records say that the platform stopped them, so
    that the next deployer starts them again and counts no crash.
    """
    root, running = instances_root(home), []
    for instance_id in instance_ids_in(root):
        folder = InstanceFolder(root / instance_id)
        record = folder.read()
        if record is not None and record.runs():
            folder.write(record.model_copy(update={"stopped": True}))
            running.append(record)
    for act, wait_s in ((terminate, timeout_s), (kill, 5.0)):
        _until_gone(running, act, wait_s)
    remove_parents(home)
    return len(running)


def _until_gone(records: list[ProcessRecord], act: Callable[[ProcessRecord], None], wait_s: float) -> None:
    left = [record for record in records if remains(record)]
    for record in left:
        act(record)
    deadline = time.monotonic() + wait_s
    while left and time.monotonic() < deadline:
        time.sleep(POLL_S)
        left = [record for record in left if remains(record)]
