"""Gives later builds a copy of the `.venv` that virtualenv made once, in a fiftieth of virtualenv's time."""

import contextlib
import hashlib
import importlib.metadata
import os
import shutil
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

from services.build.system.safe_remove import remove
from shared.host.directory_digest import SKIPPED

VENV = ".venv"
MADE_FOR = "path"  # the file beside a template that says where virtualenv made it
LONGEST_PATH = 110  # scripts of longer ones, and of those with a space, begin with other lines


class VenvTemplate:
    """Keeps a template of a `.venv` below `folder`. There is one template for each combination of Python, version of
    virtualenv, and settings of virtualenv, which are the variables VIRTUALENV_… in `environment`. Methods block.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        version = importlib.metadata.version("virtualenv")
        settings = sorted((name, value) for name, value in environment.items() if name.startswith("VIRTUALENV_"))
        made_of = repr((sys.executable, sys.version, version, settings))
        self._folder = folder / hashlib.sha256(made_of.encode()).hexdigest()[:16]
        self._taking = threading.Lock()

    def copy_to(self, venv: Path) -> bool:
        """Makes the folder `venv` as a copy of the template, with the path of `venv` in its scripts in place of the
        template's. Returns False, and leaves no such folder, if there is no usable template.
        """
        template = self._folder / VENV
        with contextlib.suppress(OSError, shutil.Error):
            made_for = (self._folder / MADE_FOR).read_bytes()
            if _has_plain_path(venv) and all(path.exists() for path in template.rglob("*")):  # links lead somewhere
                shutil.copytree(template, venv, symlinks=True)
                for script in (venv / "pyvenv.cfg", *(venv / "bin").iterdir()):
                    if not script.is_symlink():
                        script.write_bytes(script.read_bytes().replace(made_for, os.fsencode(venv)))
                return True
        remove(venv)
        return False

    def take(self, venv: Path) -> None:
        """Stores a copy of `venv`, which virtualenv has just made, as the template, in place of an earlier one."""
        if not _has_plain_path(venv):
            return
        fresh = self._folder.with_name(f".{self._folder.name}")
        with self._taking, contextlib.suppress(OSError, shutil.Error):  # after an error the next build tries again
            remove(fresh)  # what a service left that was killed
            shutil.copytree(venv, fresh / VENV, symlinks=True)
            (fresh / MADE_FOR).write_bytes(os.fsencode(venv))
            remove(self._folder)
            fresh.rename(self._folder)


def names_below(folder: Path) -> frozenset[str]:
    """Returns the paths of all files, folders and links below the folder, without Python's byte-code caches. Blocks."""
    found: set[str] = set()
    for at, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name != SKIPPED]
        found |= {os.path.join(at, name) for name in (*folders, *files)}
    return frozenset(found)


def _has_plain_path(venv: Path) -> bool:
    return len(os.fsencode(venv)) <= LONGEST_PATH and " " not in str(venv)
