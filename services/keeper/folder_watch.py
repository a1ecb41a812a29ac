"""Reports which files were moved into folders or removed from them, with one inotify instance for all (Linux)."""

import ctypes
import errno
import os
import struct
from pathlib import Path

MOVED_TO, REMOVED, OVERFLOW = 0x80, 0x200, 0x4000
REMEDIES = {
    errno.EMFILE: "no inotify instance is left for this user; raise the sysctl fs.inotify.max_user_instances",
    errno.ENOSPC: "no inotify watch is left for this user; raise the sysctl fs.inotify.max_user_watches",
}
_EVENT = struct.Struct("iIII")  # watch, mask, cookie, length of the name that follows
_BUFFER = 65_536


class FolderWatch:
    """Watches folders for files that are moved into them or removed, from the construction of the object on. Raises
    OSError, whose text names the remedy, if Linux refuses to watch a folder.
    """

    def __init__(self, *folders: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        self._folders: dict[int, Path] = {}
        for folder in folders:
            watch = libc.inotify_add_watch(self._descriptor, os.fsencode(folder), MOVED_TO | REMOVED)
            if self._descriptor < 0 or watch < 0:
                number = ctypes.get_errno()
                raise OSError(number, REMEDIES.get(number, os.strerror(number)), str(folder))
            self._folders[watch] = folder

    def fileno(self) -> int:
        """Returns the file descriptor, which becomes readable when a file has been moved or removed."""
        return int(self._descriptor)

    def changed(self) -> set[Path] | None:
        """Returns the files that were moved into a folder or removed from it since the last call; None if there were
        more than the kernel could remember.
        """
        paths: set[Path] = set()
        everything = False
        while True:
            try:
                events = os.read(self._descriptor, _BUFFER)
            except BlockingIOError:
                return None if everything else paths
            position = 0
            while position < len(events):
                watch, mask, _, length = _EVENT.unpack_from(events, position)
                position += _EVENT.size + length
                if mask & OVERFLOW:
                    everything = True
                elif length and watch in self._folders:
                    name = events[position - length : position].rstrip(b"\0")
                    paths.add(self._folders[watch] / os.fsdecode(name))
