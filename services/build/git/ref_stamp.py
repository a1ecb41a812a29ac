"""Makes stamps that show whether the branches of a repository may have changed, without a git process."""

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

# Times of files are as coarse as the file system's clock: 4 ms on Linux, 2 s on FAT. A second change within one tick
# does not alter them.
TICK_NS = 2 * 10**9
HEADS = "refs/heads"
_FILES = ("packed-refs", "reftable", "reftable/tables.list")  # files that replace single files of refs


@dataclass(frozen=True)
class RefStamp:
    """Identifies a state of the files and folders that hold a repository's branches. git replaces these files rather
    than writing into them, so a change of the branches changes the stamp. The exception is a change within a tick of
    the file system's clock (at most 2 s) after another one.
    """

    files: tuple[tuple[str, int, int, int], ...]
    """(path in the repository, inode, size, time of change in ns) of each file and folder."""

    def may_hide_a_change(self, now_ns: int) -> bool:
        """Returns True if the last change was so recent, when the stamp was taken, that another change could leave the
        stamp the same. `now_ns` is the time at which, or before which, the stamp was taken, in ns.
        """
        newest_ns = max((changed_ns for _, _, _, changed_ns in self.files), default=0)
        return abs(now_ns - newest_ns) < TICK_NS


def ref_stamp(repository: Path) -> RefStamp:
    """Returns the stamp of the present state of a repository's branches; it has no files if the repository does not
    exist. The caller takes it before git reads the branches, so that a change in between leads to another stamp. Raises
    OSError.
    """
    stamps = []
    for name in (*_FILES, HEADS):
        with contextlib.suppress(FileNotFoundError):
            stamps.append(_stamp(name, os.lstat(repository / name)))
    folders = [HEADS]
    while folders:  # not recursive: a branch's name may have more parts than Python allows calls
        name = folders.pop()
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(repository / name) as found:
            for entry in sorted(found, key=lambda each: each.name):
                path = f"{name}/{entry.name}"
                with contextlib.suppress(FileNotFoundError):  # removed meanwhile; its folder's time shows that
                    stamps.append(_stamp(path, entry.stat(follow_symlinks=False)))
                if entry.is_dir(follow_symlinks=False):
                    folders.append(path)
    return RefStamp(tuple(stamps))


def _stamp(name: str, stat: os.stat_result) -> tuple[str, int, int, int]:
    return name, stat.st_ino, stat.st_size, stat.st_mtime_ns
