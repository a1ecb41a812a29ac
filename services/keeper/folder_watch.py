"""Reports which files were moved into a folder, with one inotify instance for the whole folder (Linux)."""

import ctypes
import errno
import os
import struct
from pathlib import Path

MOVED_TO, OVERFLOW = 0x80, 0x4000
REMEDIES = {
    errno.EMFILE: "no inotify instance is left for this user; raise the sysctl fs.inotify.max_user_instances",
    errno.ENOSPC: "no inotify watch is left for this user; raise the sysctl fs.inotify.max_user_watches",
}
_EVENT = struct.Struct("iIII")  # watch, mask, cookie, length of the name that follows
_BUFFER = 65_536


class FolderWatch:
    """Watches a folder for files that are moved into it, from the construction of the object on. Raises OSError, whose
    text names the remedy, if Linux refuses to watch the folder.
    """

    def __init__(self, folder: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._descriptor < 0 or libc.inotify_add_watch(self._descriptor, os.fsencode(folder), MOVED_TO) < 0:
            number = ctypes.get_errno()
            raise OSError(number, REMEDIES.get(number, os.strerror(number)), str(folder))

    def fileno(self) -> int:
        """Returns the file descriptor, which becomes readable when a file has been moved into the folder."""
        return int(self._descriptor)

    def moved(self) -> set[str] | None:
        """Returns the names of the files that were moved into the folder since the last call; None if there were more
        than the kernel could remember.
        """
        names: set[str] = set()
        everything = False
        while True:
            try:
                events = os.read(self._descriptor, _BUFFER)
            except BlockingIOError:
                return None if everything else names
            position = 0
            while position < len(events):
                _, mask, _, length = _EVENT.unpack_from(events, position)
                position += _EVENT.size + length
                everything = everything or bool(mask & OVERFLOW)
                names.add(os.fsdecode(events[position - length : position].rstrip(b"\0")))
