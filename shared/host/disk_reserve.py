"""Refuses what can wait before the disk is full, so that there is room for what cannot, such as Redis' writes."""

from pathlib import Path

from shared.host.machine import DiskLimits, full_disk, read_disk


class DiskReserve:
    """The disk of `folder`, of which `limits` say when it counts as full."""

    def __init__(self, folder: Path, limits: DiskLimits) -> None:
        self._folder = folder
        self._limits = limits

    @property
    def room_bytes(self) -> int:
        """Returns how much may be written until the disk counts as full."""
        space = read_disk(self._folder)
        return 0 if self._limits.is_full(space) else space.free - self._limits.full_bytes

    @property
    def refusal(self) -> str:
        """Returns why nothing may be written that can wait, with the remedy; empty while there is room."""
        return full_disk(self._folder, self._limits) or ""
