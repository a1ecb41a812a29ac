"""Computes the digest of an artifact that is a folder. Build stores it; the deployer compares it before a release."""

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

SKIPPED = "__pycache__"
_EXECUTABLE = 0o111


def directory_digest(path: Path) -> str:
    """Returns `sha256:…` over all entries below `path`: relative path, kind, executable bit, target of a link, and
    content. Leaves out `__pycache__`, because Python may write there at any time. It reads every file, so callers
    should run it in a thread. Raises FileNotFoundError if there is no such folder, and OSError if an entry cannot be
    read.
    """
    total = hashlib.sha256()
    for entry in _entries(os.fspath(path), ""):
        total.update(entry)
    return f"sha256:{total.hexdigest()}"


def _entries(folder: str, prefix: str) -> Iterator[bytes]:
    """Yields, for each entry below `folder` in order of name, the bytes that the digest covers. Each path ends with
    NUL, which no path contains, so different trees always give different bytes.
    """
    with os.scandir(folder) as found:
        entries = sorted((entry for entry in found if entry.name != SKIPPED), key=lambda entry: os.fsencode(entry.name))
    for entry in entries:
        relative = os.fsencode(prefix + entry.name)
        mode = entry.stat(follow_symlinks=False).st_mode
        executable = b"x" if mode & _EXECUTABLE else b"-"
        if stat.S_ISLNK(mode):
            yield b"link\0" + relative + b"\0" + os.fsencode(os.readlink(entry.path)) + b"\0"
        elif stat.S_ISDIR(mode):
            yield b"directory\0" + relative + b"\0"
            yield from _entries(entry.path, f"{prefix}{entry.name}/")
        elif stat.S_ISREG(mode):
            with open(entry.path, "rb") as file:
                content = hashlib.file_digest(file, "sha256").digest()
            yield b"file\0" + relative + b"\0" + executable + content
        else:  # a socket or pipe that a step left behind: its presence counts, it has no content
            yield b"other\0" + relative + b"\0"
