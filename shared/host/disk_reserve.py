"""Decides whether the disk has room for work that can wait, and keeps the rest for work that cannot, such as Redis'
writes.
"""

from pathlib import Path

from shared.host.machine import DiskLimits, full_disk, read_disk


class DiskReserve:
    """Measures the free space on the disk of `folder`; `limits` define when that disk counts as full."""

    def __init__(self, folder: Path, limits: DiskLimits) -> None:
        self._folder = folder
        self._limits = limits

    @property
    def room_bytes(self) -> int:
        """Returns how many bytes may be written until the disk counts as full."""
        space = read_disk(self._folder)
        return 0 if self._limits.is_full(space) else space.free - self._limits.full_bytes

    @property
    def refusal(self) -> str:
        """Returns a sentence for people that the disk is full, with the remedy, if work that can wait must not begin;
        an empty text while there is room.
        """
        return full_disk(self._folder, self._limits) or ""
