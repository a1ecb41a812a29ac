"""Reads and writes the memory files of one control group, in both versions of the kernel's interface. They are
described in the kernel's Documentation/admin-guide: cgroup-v1/memory.rst and cgroup-v2.rst.
"""

import contextlib
import time
from pathlib import Path
from typing import Protocol

from services.deployer.drivers.kernel_file import kernel_file
from services.deployer.drivers.memory_use import MemoryUse

PROCESSES = "cgroup.procs"
CACHE_KEPT_S = 30.0


class GroupFiles(Protocol):
    """Reads and writes the memory files of one control group. Every method may raise OSError, except `oom_kills`, which
    returns 0 if the group is missing.
    """

    def set_limit(self, memory: int) -> None:
        """Limits memory and swap together to `memory` bytes. Idempotent, also after an interrupted call."""
        ...

    def limit(self) -> int:
        """Returns the limit in bytes. Raises ValueError if there is no limit."""
        ...

    def use(self) -> MemoryUse: ...

    def oom_kills(self) -> int: ...


def group_files(group: Path) -> GroupFiles:
    """Returns the files of the control group `group` for the kernel's interface in use (version 1 or 2), recognised by
    the names of files.
    """
    return VersionTwoFiles(group) if (group / VersionTwoFiles.LIMIT).exists() else VersionOneFiles(group)


class _PageCache:
    """Reads how much of a group's page cache the kernel would drop first (`inactive_file`). The kernel takes some 0.3
    ms to produce that file. It is therefore read again only if the group's memory usage has changed, or after 30 s.
    """

    def __init__(self, group: Path, name: str) -> None:
        self._file = f"{group}/memory.stat"
        self._name = name
        self._usage = -1
        self._read_at = 0.0
        self._size = 0

    def size(self, usage: int) -> int:
        """Returns the size in bytes. `usage` is the memory that the group uses now, with its page cache, in bytes.
        Raises OSError."""
        now = time.monotonic()
        if usage != self._usage or now - self._read_at >= CACHE_KEPT_S:
            self._size = _figures(self._file).get(self._name, 0)
            self._usage, self._read_at = usage, now
        return self._size


class VersionOneFiles:
    LIMIT = "memory.limit_in_bytes"
    LIMIT_WITH_SWAP = "memory.memsw.limit_in_bytes"

    def __init__(self, group: Path) -> None:
        self._group = group
        self._cache = _PageCache(group, "total_inactive_file")

    def set_limit(self, memory: int) -> None:
        """Sets the limit of memory, and the limit of memory and swap together, in such an order that the second limit
        is never the lower one, as the kernel demands. Raises OSError if `memory` (bytes) is below the present usage.
        """
        limit, with_swap = self._group / self.LIMIT, self._group / self.LIMIT_WITH_SWAP
        before = int(limit.read_text())
        if not with_swap.exists():
            _write(limit, memory)
        elif memory > before:
            _write(with_swap, memory)
            _write(limit, memory)
        else:
            _write(limit, memory)
            try:
                _write(with_swap, memory)
            except OSError:
                _write(limit, before)
                raise

    def limit(self) -> int:
        return int(kernel_file(f"{self._group}/{self.LIMIT}"))

    def use(self) -> MemoryUse:
        usage = int(kernel_file(f"{self._group}/memory.usage_in_bytes"))
        return MemoryUse(working_set(usage, self._cache.size(usage)), self.oom_kills())

    def oom_kills(self) -> int:
        return _kills(f"{self._group}/memory.oom_control")


class VersionTwoFiles:
    """Reads and writes the memory files of version 2. `memory.oom.group` stays off, so that a kill at the limit ends
    one process only: the shell that records the exit code survives, and an app can survive the kill of a child process.
    """

    LIMIT = "memory.max"
    SWAP = "memory.swap.max"

    def __init__(self, group: Path) -> None:
        self._group = group
        self._cache = _PageCache(group, "inactive_file")

    def set_limit(self, memory: int) -> None:
        """Turns swap off and sets the limit. If the present usage is higher, the kernel kills processes, so the caller
        has to check it first.
        """
        if (self._group / self.SWAP).exists():
            _write(self._group / self.SWAP, 0)
        _write(self._group / self.LIMIT, memory)

    def limit(self) -> int:
        return int(kernel_file(f"{self._group}/{self.LIMIT}"))

    def use(self) -> MemoryUse:
        usage = int(kernel_file(f"{self._group}/memory.current"))
        return MemoryUse(working_set(usage, self._cache.size(usage)), self.oom_kills(), self._pressure())

    def oom_kills(self) -> int:
        return _kills(f"{self._group}/memory.events")

    def _pressure(self) -> float | None:
        """Returns for how much of the last 10 s processes of the group waited for memory, in percent (PSI `some
        avg10`); None if the kernel does not report it.
        """
        with contextlib.suppress(OSError):  # a kernel may be built or booted without it: then even reading it fails
            for line in kernel_file(f"{self._group}/memory.pressure").decode().splitlines():
                kind, _, figures = line.partition(" ")
                if kind == "some":
                    return float(dict(figure.split("=") for figure in figures.split())["avg10"])
        return None


def enable_memory(parent: Path) -> None:
    """Enables the memory controller for the groups below `parent`, as version 2 requires. Raises OSError."""
    if "memory" not in (parent / "cgroup.subtree_control").read_text().split():
        _write(parent / "cgroup.subtree_control", "+memory")


def working_set(usage: int, cache: int) -> int:
    """Returns the memory `usage` without `cache`, the page cache that the kernel would drop first; all in bytes.
    `docker stats` computes it in the same way.
    """
    return usage if cache >= usage else usage - cache


def _figures(path: str) -> dict[str, int]:
    """Returns name → number from a file with lines `name number`."""
    lines = kernel_file(path).decode().splitlines()
    return {name: int(value) for name, value in (line.split() for line in lines)}


def _kills(path: str) -> int:
    with contextlib.suppress(OSError):
        return _figures(path).get("oom_kill", 0)
    return 0


def _write(path: Path, value: int | str) -> None:
    """Writes the value and closes the file. Raises OSError if the kernel refuses the value."""
    with path.open("w") as file:
        file.write(str(value))
