"""The files of one control group that have to do with memory, in both versions of the kernel's interface.

Sources: the kernel's Documentation/admin-guide/cgroup-v1/memory.rst and cgroup-v2.rst.
"""

import contextlib
from pathlib import Path
from typing import Protocol

from services.deployer.drivers.memory_use import MemoryUse

PROCESSES = "cgroup.procs"


class GroupFiles(Protocol):
    """Of one group. They raise OSError, but for `oom_kills`: of a group that is gone nobody knows any."""

    def set_limit(self, memory: int) -> None:
        """Bytes, swap included. Safe to repeat, also after it was cut off in the middle."""
        ...

    def use(self) -> MemoryUse: ...

    def oom_kills(self) -> int: ...


def group_files(group: Path) -> GroupFiles:
    """Which version it is can be seen from its files."""
    return VersionTwoFiles(group) if (group / VersionTwoFiles.LIMIT).exists() else VersionOneFiles(group)


class VersionOneFiles:
    LIMIT = "memory.limit_in_bytes"
    LIMIT_WITH_SWAP = "memory.memsw.limit_in_bytes"

    def __init__(self, group: Path) -> None:
        self._group = group

    def set_limit(self, memory: int) -> None:
        """The limit with swap may never be below the other one. What is in use cannot be cut: EBUSY."""
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

    def use(self) -> MemoryUse:
        usage, cache = _number(self._group / "memory.usage_in_bytes"), _figures(self._group / "memory.stat")
        return MemoryUse(working_set(usage, cache.get("total_inactive_file", 0)), self.oom_kills())

    def oom_kills(self) -> int:
        return _kills(self._group / "memory.oom_control")


class VersionTwoFiles:
    """`memory.oom.group` stays off: with it the shim would die with the app and nobody could say how that ended, and an
    app whose child was killed could not live on.
    """

    LIMIT = "memory.max"
    SWAP = "memory.swap.max"

    def __init__(self, group: Path) -> None:
        self._group = group

    def set_limit(self, memory: int) -> None:
        """Below what is in use the kernel would kill: who lowers it asks for the use first."""
        if (self._group / self.SWAP).exists():
            _write(self._group / self.SWAP, 0)
        _write(self._group / self.LIMIT, memory)

    def use(self) -> MemoryUse:
        usage, cache = _number(self._group / "memory.current"), _figures(self._group / "memory.stat")
        return MemoryUse(working_set(usage, cache.get("inactive_file", 0)), self.oom_kills(), self._pressure())

    def oom_kills(self) -> int:
        return _kills(self._group / "memory.events")

    def _pressure(self) -> float | None:
        """`some avg10=1.50 avg60=…` → 1.5."""
        with contextlib.suppress(OSError):  # a kernel may be built or booted without it: then even reading it fails
            for line in (self._group / "memory.pressure").read_text().splitlines():
                kind, _, figures = line.partition(" ")
                if kind == "some":
                    return float(dict(figure.split("=") for figure in figures.split())["avg10"])
        return None


def enable_memory(parent: Path) -> None:
    """In version 2, groups inside `parent` have memory files only if `parent` says so. Raises OSError."""
    if "memory" not in (parent / "cgroup.subtree_control").read_text().split():
        _write(parent / "cgroup.subtree_control", "+memory")


def working_set(usage: int, cache: int) -> int:
    """Without the cache that the kernel would drop first; as docker's own formula has it."""
    return usage if cache >= usage else usage - cache


def _number(path: Path) -> int:
    return int(path.read_text())


def _figures(path: Path) -> dict[str, int]:
    """Of a file with lines `name number`."""
    return {name: int(value) for name, value in (line.split() for line in path.read_text().splitlines())}


def _kills(path: Path) -> int:
    with contextlib.suppress(OSError):
        return _figures(path).get("oom_kill", 0)
    return 0


def _write(path: Path, value: int | str) -> None:
    """At once, so that what the kernel refuses is raised here (a file that is closed later swallows it)."""
    with path.open("w") as file:
        file.write(str(value))
