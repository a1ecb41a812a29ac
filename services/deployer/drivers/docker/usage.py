"""Measures a container's memory and CPU, from the files of its control group or else the engine's statistics.

Reading the files takes 0.1 ms for each container; the engine takes up to 1 s, and 2 s before version 20.10.
"""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from services.deployer.drivers.cgroup_files import group_files, working_set
from services.deployer.drivers.memory_use import MemoryUse

NS_PER_S, US_PER_S = 1e9, 1e6


class HostGroups:
    """Reads the machine's control groups below `root` (`/sys/fs/cgroup`, or where that is mounted)."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def use(self, container_id: str) -> tuple[MemoryUse, float] | None:
        """Returns memory use and CPU seconds; None if the files cannot be read or the container has ended."""
        with contextlib.suppress(OSError, ValueError, KeyError):
            if (memory := self._group("memory", container_id)) is not None:
                cpu = self._group("cpuacct", container_id)
                return group_files(memory).use(), _cpu_s(cpu or memory)
        return None

    def _group(self, controller: str, container_id: str) -> Path | None:
        """Returns the container's group, or None. It knows both versions (1 has a tree for each controller, 2 one for
        all) and both names that the engine gives groups.
        """
        names = (f"docker/{container_id}", f"system.slice/docker-{container_id}.scope")
        found = (root / name for root in (self._root / controller, self._root) for name in names)
        return next((group for group in found if group.is_dir()), None)


def _cpu_s(group: Path) -> float:
    if (version_one := group / "cpuacct.usage").exists():
        return int(version_one.read_text()) / NS_PER_S
    lines = (line.split() for line in (group / "cpu.stat").read_text().splitlines())
    return int(dict(lines)["usage_usec"]) / US_PER_S


def use_of(statistics: Mapping[str, Any], oom_kills: int) -> tuple[MemoryUse, float] | None:
    """Returns memory use and CPU seconds from the engine's `statistics`; None if the container has ended."""
    memory = statistics.get("memory_stats", {})
    if "usage" not in memory:
        return None
    figures = memory.get("stats", {})
    cache = figures.get("total_inactive_file", figures.get("inactive_file", 0))
    cpu_s = statistics["cpu_stats"]["cpu_usage"]["total_usage"] / NS_PER_S
    return MemoryUse(working_set(memory["usage"], cache), oom_kills), cpu_s
