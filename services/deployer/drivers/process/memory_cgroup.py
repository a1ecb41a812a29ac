"""Limits the memory of instances with control groups, which the kernel enforces: one group for each instance, all below
one group for the platform's home (its data folder).
"""

import contextlib
import hashlib
import logging
import os
import subprocess
import time
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Literal

from services.deployer.drivers.cgroup_files import PROCESSES, GroupFiles, enable_memory, group_files
from services.deployer.drivers.driver import DriverError
from services.deployer.drivers.memory_use import MemoryUse, check_limit
from services.deployer.drivers.process.linux_process import ProcessStat
from services.deployer.drivers.process.record import ProcessRecord

log = logging.getLogger(__name__)

MOUNTS = Path("/proc/self/mountinfo")
TRIED_BYTES = 16 * 2**20
POLL_S = 0.02
LEAVE_WITHIN_S = 1.0


class CgroupLimits:
    """Implements `MemoryLimits` with control groups below `parent`. If `parent` is None, `make` creates no group; the
    other methods serve instances that got a group from an earlier deployer.
    """

    def __init__(self, parent: Path | None) -> None:
        self._parent = parent
        self._files: dict[str, GroupFiles] = {}

    def make(self, instance_id: str, memory: int) -> Path | None:
        """Creates the control group of an instance before its start, with a limit of `memory` bytes. Returns the file
        to which the instance's first process must write its pid before anything else. Returns None if `parent` is None;
        the kernel then does not limit the instance.
        """
        if self._parent is None:
            return None
        return _make_group(self._parent, instance_id, memory) / PROCESSES

    def change(self, record: ProcessRecord, memory: int) -> None:
        files = group_files(Path(record.group))
        try:
            check_limit(record.id, record.memory, memory, files.use().working_set)
            files.set_limit(memory)
        except OSError as error:
            raise DriverError(f"the kernel refuses the memory limit of {record.id}: {error.strerror}") from error

    def use(self, record: ProcessRecord, members: Iterable[ProcessStat]) -> MemoryUse:
        if (files := self._files.get(record.group)) is None:
            files = self._files[record.group] = group_files(Path(record.group))
        return files.use()

    def oom_kills(self, record: ProcessRecord) -> int:
        return max(record.oom_kills, group_files(Path(record.group)).oom_kills())

    def remove(self, record: ProcessRecord) -> None:
        self._files.pop(record.group, None)
        _remove(Path(record.group), LEAVE_WITHIN_S)

    def sweep(self, instance_ids: Collection[str]) -> None:
        """Removes the control groups of instances that are not in `instance_ids`."""
        for group in _groups_in(self._parent):
            if group.name not in instance_ids:
                _remove(group, 0)


def parent_for(mode: Literal["auto", "cgroup", "guard"], home: Path, mounts: Path = MOUNTS) -> Path | None:
    """Returns the control group below which instances get theirs. Returns None if a measuring loop (the guard) must
    limit their memory instead, because `mode` is `guard`, or is `auto` and no group can be created. Raises ValueError
    if `mode` is `cgroup` and no group can be created.
    """
    if mode == "guard":
        return None
    problems = []
    for parent in parents_of(home, mounts):
        try:
            _try(parent)
        except OSError as error:
            problems.append(f"{parent}: {error.strerror or error}")
        else:
            return parent
    why = "; ".join(problems) or "no memory controller is mounted"
    if mode == "cgroup":
        raise ValueError(f"SLIPWAY_MEMORY_LIMITS=cgroup: no control group can be written here ({why}); choose guard")
    log.info("no control group can be written here (%s): a guard holds instances to their memory limits", why)
    return None


def remove_parents(home: Path) -> None:
    """Removes the control groups of the platform's home and those of its instances; call it once the last instance has
    ended.
    """
    for parent in parents_of(home):
        for group in _groups_in(parent):
            _remove(group, LEAVE_WITHIN_S)
        _remove(parent, 0)


def parents_of(home: Path, mounts: Path = MOUNTS) -> list[Path]:
    """Returns the paths of the control group for the platform's home (its data folder), one for each mounted hierarchy
    that has the memory controller. The name is derived from the home's path, so that a new deployer finds the group
    again.
    """
    name = f"slipway-{hashlib.sha256(str(home.absolute()).encode()).hexdigest()[:12]}"
    text = mounts.read_text() if mounts.exists() else ""
    return [root / name for root in _memory_roots(text)]


def _memory_roots(mountinfo: str) -> Iterator[Path]:
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        root, (kind, _, options) = Path(before.split()[4]), after.split()
        if kind == "cgroup" and "memory" in options.split(","):
            yield root
        if kind == "cgroup2":
            with contextlib.suppress(OSError):
                if "memory" in (root / "cgroup.controllers").read_text().split():
                    yield root


def _make_group(parent: Path, name: str, memory: int) -> Path:
    parent.mkdir(exist_ok=True)
    if (parent / "cgroup.subtree_control").exists():
        enable_memory(parent.parent)
        enable_memory(parent)
    group = parent / name
    group.mkdir(exist_ok=True)
    group_files(group).set_limit(memory)
    return group


def _try(parent: Path) -> None:
    """Tests whether control groups work below `parent`: creates one, lets a process enter it, and removes it, since the
    kernel may refuse this even in a writable folder. Raises OSError if the kernel refuses.
    """
    group = parent / f"try-{os.getpid()}"
    try:
        _make_group(parent, group.name, TRIED_BYTES)
        enter = ["/bin/sh", "-c", 'echo $$ > "$1"', "slipway-try", str(group / PROCESSES)]
        if subprocess.run(enter, stderr=subprocess.DEVNULL, timeout=5).returncode:
            raise OSError("no process can enter a group")
    finally:
        _remove(group, LEAVE_WITHIN_S)
        with contextlib.suppress(OSError):
            parent.rmdir()  # fails as long as the group holds instances


def _groups_in(parent: Path | None) -> list[Path]:
    return [path for path in parent.iterdir() if path.is_dir()] if parent is not None and parent.is_dir() else []


def _remove(group: Path, within_s: float) -> None:
    """Removes a control group. Repeats that for `within_s` seconds, until killed processes have left the group. Logs a
    failure.
    """
    deadline = time.monotonic() + within_s
    while True:
        try:
            return group.rmdir()
        except FileNotFoundError:
            return None
        except OSError as error:
            if time.monotonic() >= deadline:
                log.info("the control group %s cannot be removed: %s", group, error.strerror)
                return None
        time.sleep(POLL_S)
