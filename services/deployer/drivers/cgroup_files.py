"""Reads and writes the memory files of one control group, in both versions of the kernel's interface.

Sources: the kernel's Documentation/admin-guide/cgroup-v1/memory.rst and cgroup-v2.rst.
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
    """The memory files of one control group. Methods raise OSError, but `oom_kills` returns 0 for a missing group."""

    def set_limit(self, memory: int) -> None:
        """Sets the limit of memory and swap together to `memory` bytes. Idempotent, also after an interrupted call."""
        ...

    def limit(self) -> int:
        """Returns the limit in bytes; raises ValueError if there is none."""
        ...

    def use(self) -> MemoryUse: ...

    def oom_kills(self) -> int: ...


def group_files(group: Path) -> GroupFiles:
    """Returns the files of `group` for the version (1 or 2) that the kernel mounted, recognised by their names."""
    return VersionTwoFiles(group) if (group / VersionTwoFiles.LIMIT).exists() else VersionOneFiles(group)


class _PageCache:
    """Reads the size of that part of a group's page cache that the kernel would drop first (`inactive_file`). The
    kernel takes some 0.3 ms to make the file that holds it, so an object reads the file again only when the group's
    usage has changed, or after 30 s.
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
        """Sets the limit of memory and that of memory and swap, in an order in which the latter is never the lower one,
        as the kernel demands. Raises OSError if `memory` is below the use."""
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
    """Files of version 2. `memory.oom.group` stays off, so that a kill at the limit ends one process: the shell that
    records the exit code lives on, and an app can survive the kill of a child.
    """

    LIMIT = "memory.max"
    SWAP = "memory.swap.max"

    def __init__(self, group: Path) -> None:
        self._group = group
        self._cache = _PageCache(group, "inactive_file")

    def set_limit(self, memory: int) -> None:
        """Turns swap off and sets the limit. Below the current use the kernel kills, so check the use before."""
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
        """Returns the group's PSI `some avg10` in percent; None if the kernel does not report it."""
        with contextlib.suppress(OSError):  # a kernel may be built or booted without it: then even reading it fails
            for line in kernel_file(f"{self._group}/memory.pressure").decode().splitlines():
                kind, _, figures = line.partition(" ")
                if kind == "some":
                    return float(dict(figure.split("=") for figure in figures.split())["avg10"])
        return None


def enable_memory(parent: Path) -> None:
    """Enables the memory controller for the groups inside `parent`, which version 2 requires. Raises OSError."""
    if "memory" not in (parent / "cgroup.subtree_control").read_text().split():
        _write(parent / "cgroup.subtree_control", "+memory")


def working_set(usage: int, cache: int) -> int:
    """Returns `usage` without the page cache that the kernel would drop first, in bytes, as `docker stats` does."""
    return usage if cache >= usage else usage - cache


def _figures(path: str) -> dict[str, int]:
    """Returns the numbers by name from a file with lines `name number`."""
    lines = kernel_file(path).decode().splitlines()
    return {name: int(value) for name, value in (line.split() for line in lines)}


def _kills(path: str) -> int:
    with contextlib.suppress(OSError):
        return _figures(path).get("oom_kill", 0)
    return 0


def _write(path: Path, value: int | str) -> None:
    """Writes and closes the file, so that a refusal by the kernel raises OSError here."""
    with path.open("w") as file:
        file.write(str(value))
