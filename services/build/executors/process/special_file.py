"""Finds files that an artifact cannot contain, such as a socket that a step has left. Blocks."""

import os
import stat
from pathlib import Path

SPECIAL = {stat.S_IFIFO: "named pipe", stat.S_IFSOCK: "socket"}


def special_file(folder: Path) -> tuple[str, str] | None:
    """Returns the kind and the path, relative to `folder`, of the first thing below it that is neither a file nor a
    folder nor a link; None if there is none.
    """
    for parent, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(parent, name)
            kind = stat.S_IFMT(os.lstat(path).st_mode)
            if kind not in (stat.S_IFREG, stat.S_IFLNK):
                return SPECIAL.get(kind, "device"), os.path.relpath(path, folder)
    return None
