"""Removes files and folders that steps leave, whatever permissions and links they have."""

import os
import subprocess
from pathlib import Path

_TIMEOUT_S = 120.0


def remove(path: Path) -> None:
    """Removes the folder, file or link at `path`, if there is one; follows no links. It can remove folders without
    permissions, and very deep ones, at which `shutil.rmtree` fails. What cannot be removed stays, without an error.
    Blocks for up to 6 minutes.
    """
    if not os.path.lexists(path):
        return
    if not _rm(path) and path.is_dir() and not path.is_symlink():
        _quietly("chmod", "-R", "u+rwx", path)
        _rm(path)


def own_folder(path: Path) -> None:
    """Creates the folder if it does not exist; a link or file in its place is removed first."""
    if path.is_symlink() or not path.is_dir():
        remove(path)
    path.mkdir(parents=True, exist_ok=True)


def _rm(path: Path) -> bool:
    return _quietly("rm", "-rf", path)


def _quietly(program: str, option: str, *rest: str | Path) -> bool:
    command = [program, option, *rest[:-1], "--", rest[-1]]
    quiet = subprocess.DEVNULL
    try:
        done = subprocess.run(command, stdin=quiet, stdout=quiet, stderr=quiet, timeout=_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
