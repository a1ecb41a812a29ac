"""Keeps a reserve of free space on the disk: what can wait or be refused is, before the disk is full."""

import shutil
from pathlib import Path

from shared.manifest import MIB


class DiskReserve:
    """The disk of `folder`, on which `reserve_bytes` are to stay free for what cannot wait, such as Redis' writes."""

    def __init__(self, folder: Path, reserve_bytes: int) -> None:
        self._folder = folder
        self._reserve_bytes = reserve_bytes

    @property
    def room_bytes(self) -> int:
        """Returns how much may be written before the reserve is touched."""
        return max(0, self._free_bytes() - self._reserve_bytes)

    @property
    def refusal(self) -> str:
        """Returns why nothing may be written that can wait, with the remedy; empty while there is room."""
        if (free_bytes := self._free_bytes()) >= self._reserve_bytes:
            return ""
        return (
            f"the disk of {self._folder} has {free_bytes // MIB} MB left, and {self._reserve_bytes // MIB} MB are kept "
            "free (SLIPWAY_DISK_RESERVE_MB); delete something from it or enlarge it"
        )

    def _free_bytes(self) -> int:
        folder = self._folder
        while not folder.exists():
            folder = folder.parent
        return shutil.disk_usage(folder).free
