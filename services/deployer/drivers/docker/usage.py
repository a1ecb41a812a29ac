"""Reads a container's memory use and CPU time, from the files of its control group or from the engine's statistics."""

import contextlib
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.deployer.drivers.cgroup_files import GroupFiles, group_files, working_set
from services.deployer.drivers.kernel_file import kernel_file
from services.deployer.drivers.memory_use import MemoryUse

NS_PER_S, US_PER_S = 1e9, 1e6
Use = tuple[MemoryUse, float]  # memory use, CPU seconds


@dataclass(frozen=True)
class HostGroup:
    """Describes the control group of a container. The engine creates one at each start of the container, with another
    `inode`. `memory` reads its memory files; `cpu` is the folder of its CPU files.
    """

    path: Path
    inode: int
    memory: GroupFiles
    cpu: Path

    def use(self) -> Use:
        """Returns the group's memory use and its CPU seconds. Raises OSError, ValueError or KeyError if its files are
        not readable.
        """
        return self.memory.use(), _cpu_s(self.cpu)


class HostGroups:
    """Reads the machine's control groups below `root` (`/sys/fs/cgroup`, or where that is mounted)."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._found: dict[str, HostGroup] = {}

    def use(self, container_id: str) -> Use | None:
        """Returns the memory use and CPU seconds of the container; None if it has ended or the files are not
        readable.
        """
        with contextlib.suppress(OSError, ValueError, KeyError):
            if (group := self.group(container_id)) is not None:
                return group.use()
        return None

    def group(self, container_id: str) -> HostGroup | None:
        """Returns the control group of the running container; None if it has ended or the files are not readable."""
        kept = self._found.get(container_id)
        with contextlib.suppress(OSError):
            if kept is not None and os.stat(kept.path).st_ino == kept.inode:
                return kept
        self._found.pop(container_id, None)
        if (memory := self._folder("memory", container_id)) is None:
            return None
        cpu = self._folder("cpuacct", container_id) or memory
        with contextlib.suppress(OSError):
            found = HostGroup(memory, os.stat(memory).st_ino, group_files(memory), cpu)
            return self._found.setdefault(container_id, found)
        return None

    def keep(self, container_ids: Collection[str]) -> None:
        """Forgets the control groups of all containers that are not in `container_ids`."""
        self._found = {each: group for each, group in self._found.items() if each in container_ids}

    def _folder(self, controller: str, container_id: str) -> Path | None:
        """Returns the folder of the container's group for `controller`; None if there is none. Version 1 of control
        groups has a tree for each controller, version 2 a single one; both are searched, under both names that the
        engine gives to groups.
        """
        names = (f"docker/{container_id}", f"system.slice/docker-{container_id}.scope")
        found = (root / name for root in (self._root / controller, self._root) for name in names)
        return next((group for group in found if group.is_dir()), None)


def _cpu_s(group: Path) -> float:
    with contextlib.suppress(FileNotFoundError):
        return int(kernel_file(f"{group}/cpuacct.usage")) / NS_PER_S  # control groups version 1
    lines = (line.split() for line in kernel_file(f"{group}/cpu.stat").decode().splitlines())
    return int(dict(lines)["usage_usec"]) / US_PER_S


def use_of(statistics: Mapping[str, Any], oom_kills: int) -> Use | None:
    """Returns the memory use and CPU seconds from the engine's `statistics` of a container; None if the container has
    ended.
    """
    memory = statistics.get("memory_stats", {})
    if "usage" not in memory:
        return None
    figures = memory.get("stats", {})
    cache = figures.get("total_inactive_file", figures.get("inactive_file", 0))
    cpu_s = statistics["cpu_stats"]["cpu_usage"]["total_usage"] / NS_PER_S
    return MemoryUse(working_set(memory["usage"], cache), oom_kills), cpu_s
