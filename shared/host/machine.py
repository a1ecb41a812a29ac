"""Reads how much disk space, and how many file descriptors and inotify instances, the machine has left. Each text for
people says what is scarce, how much is left, and what to do.
"""

import ctypes
import errno
import os
import resource
from dataclasses import dataclass
from pathlib import Path

GIB, MIB = 2**30, 2**20
ENOUGH_AGAIN = 1.2  # a low disk stays low until this many times the limit is free, so that an alert does not flap
FILES_LOW, FILES_FULL = 0.05, 0.005  # of the inodes that the file system has
NEAR = 0.8
FILE_TABLE = Path("/proc/sys/fs/file-nr")
OWN_FILES = Path("/proc/self/fd")
INOTIFY = 6  # instances of inotify: five of Envoy, which does not start without them, and one of the keeper


@dataclass(frozen=True)
class DiskSpace:
    """Holds how much space the file system of `path` has, in bytes and in inodes (0 if it has no fixed number of
    inodes).
    """

    path: Path
    total: int
    free: int
    """The bytes that a user without privileges can still write."""
    files_total: int = 0
    files_free: int = 0

    def __str__(self) -> str:
        files = f", and {self.files_free} of {self.files_total} files" if self._few_files(FILES_LOW) else ""
        return f"the disk of {self.path} has {_size(self.free)} of {_size(self.total)} left{files}"

    def _few_files(self, share: float) -> bool:
        return self.files_free < share * self.files_total

    def is_below(self, least: float, files_share: float) -> bool:
        """Returns True if less than `least` bytes are free, or less than the share `files_share` (0 to 1) of the
        inodes.
        """
        return self.free < least or self._few_files(files_share)


@dataclass(frozen=True)
class DiskLimits:
    """Defines when a disk is low (an alert fires) and when it is full (pushes are refused)."""

    low_bytes: int
    low_share: float
    """The disk is low if less than `low_bytes` and less than this share are free, so the defaults suit any size."""
    full_bytes: int

    def is_low(self, space: DiskSpace, was_low: bool = False) -> bool:
        """Returns True if the disk is low. A disk that was low before (`was_low`) stays low until a fifth more than the
        limit is free.
        """
        factor = ENOUGH_AGAIN if was_low else 1.0
        return space.is_below(factor * min(self.low_bytes, self.low_share * space.total), factor * FILES_LOW)

    def is_full(self, space: DiskSpace) -> bool:
        """Returns True if work that can wait, such as a push, must not begin, since it might fill the disk."""
        return space.is_below(self.full_bytes, FILES_FULL)


DISK_REMEDY = (
    "delete what is not needed (apps, volumes, images that the engine does not use), keep less of builds "
    "(SLIPWAY_BUILD_KEEP_ARTIFACTS, SLIPWAY_BUILD_KEEP_DAYS), or enlarge the disk"
)


def read_disk(path: Path) -> DiskSpace:
    """Reads the disk's space at `path` or, if that is missing, at the nearest parent that exists. Raises OSError."""
    there = next(each for each in (path, *path.parents) if each.exists())
    found = os.statvfs(there)
    return DiskSpace(
        path=path,
        total=found.f_blocks * found.f_frsize,
        free=found.f_bavail * found.f_frsize,
        files_total=found.f_files,
        files_free=found.f_favail,
    )


def full_disk(path: Path, limits: DiskLimits) -> str | None:
    """Returns a sentence that the disk of `path` is full, with the remedy; None if it is not full."""
    space = read_disk(path)
    return f"{space}, which is full for Slipway: {DISK_REMEDY}" if limits.is_full(space) else None


class DiskWatch:
    """Checks, for `/ready`, whether the disk of `path` is full or low."""

    def __init__(self, path: Path, limits: DiskLimits) -> None:
        self._path = path
        self._limits = limits
        self._is_low = False

    async def problem(self) -> str | None:
        return full_disk(self._path, self._limits)

    async def warning(self) -> str | None:
        """Returns a text that the disk is low, with the remedy; None if it is not. A full disk is also low."""
        space = read_disk(self._path)
        self._is_low = self._limits.is_low(space, self._is_low)
        if not self._is_low:
            return None
        return f"{space}; {_size(self._limits.full_bytes)} or less is full, and refuses pushes: {DISK_REMEDY}"


async def descriptors_warning(table: Path = FILE_TABLE) -> str | None:
    """Returns a warning, with the remedy, if this process or the machine has nearly reached its limit of open files.
    Returns None if neither has, or if the system does not report it.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        opened = len(os.listdir(OWN_FILES))
    except OSError as error:
        if error.errno not in (errno.EMFILE, errno.ENFILE):
            return None
        opened = soft
    if soft != resource.RLIM_INFINITY and opened >= NEAR * soft:
        more = "ulimit -n" if hard > soft or hard == resource.RLIM_INFINITY else "ulimit -Hn"
        return (
            f"this service has {opened} of at most {soft} files open: raise its limit ({more}; LimitNOFILE of systemd; "
            "ulimits of Docker) and restart it; what it has open, `ls -l /proc/<pid>/fd` shows"
        )
    return _file_table_warning(table)


def _file_table_warning(table: Path) -> str | None:
    try:
        used, _, most = map(int, table.read_text().split())
    except (OSError, ValueError):
        return None
    if used < NEAR * most:
        return None
    return f"this machine has {used} of at most {most} files open: end what opens them, or raise fs.file-max"


async def inotify_warning() -> str | None:
    """Opens and closes as many inotify instances as Envoy and the keeper need. Returns None if that works; else a
    warning, with the remedy, that Envoy could not be started again.
    """
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "inotify_init"):
        return None
    opened = [libc.inotify_init() for _ in range(INOTIFY)]
    for descriptor in opened:
        if descriptor >= 0:
            os.close(descriptor)
    if min(opened) >= 0:
        return None
    return (
        "the user of the platform has too few inotify instances left for another start of Envoy: raise the sysctl "
        "fs.inotify.max_user_instances (128 by default), or end what uses them"
    )


def _size(number: int) -> str:
    return f"{number / GIB:.1f} GiB" if number >= GIB else f"{number / MIB:.0f} MiB"
