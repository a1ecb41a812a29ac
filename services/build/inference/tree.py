"""Holds the files of a commit from which inference finds out how the app is built and run, and chooses which of them
are read.
"""

import json
import tomllib
from collections.abc import Collection, Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any

from services.build.inference.inference import NotInferred

DOCKERFILE = "Dockerfile"
AT_ROOT = frozenset(
    {
        *(DOCKERFILE, "Procfile", "package.json", "package-lock.json", "npm-shrinkwrap.json", "pnpm-lock.yaml"),
        *("yarn.lock", "pnpm-workspace.yaml", "angular.json", ".nvmrc", ".node-version", ".python-version"),
        *("runtime.txt", "pyproject.toml", "setup.cfg", "Pipfile", "Pipfile.lock", "uv.lock", "poetry.lock"),
        *("slipway.yml", "vite.config.js", "vite.config.ts", "vite.config.mjs", "manage.py"),
    }
)
# Modules that usually hold an app; a commit has too many others to read.
_MODULES = (
    "main",
    "app",
    "wsgi",
    "asgi",
    "server",
    "application",
    "api",
    "web",
    "run",
    "__init__",
    "settings",
)
DEEPEST_MODULE = 3
MOST_MODULES = 60
MOST_PACKAGES = 50
LARGEST_LOCK_BYTES = 16 * 2**20  # a lock file is read for the names in it; a larger one is skipped
LOCKS = frozenset({"package-lock.json", "npm-shrinkwrap.json", "pnpm-lock.yaml", "yarn.lock"})


def worth_reading(paths: Iterable[str]) -> list[str]:
    """Returns those of `paths`, the files of a commit, whose content inference reads."""
    paths = sorted(paths, key=lambda path: (path.count("/"), path))
    at_root = [path for path in paths if path in AT_ROOT or _is_requirements(path)]
    modules = [path for path in paths if _is_module(path)][:MOST_MODULES]
    packages = [path for path in paths if path.endswith("/package.json") and "node_modules/" not in path]
    return list(dict.fromkeys([*at_root, *modules, *packages[:MOST_PACKAGES]]))


def _is_requirements(path: str) -> bool:
    name, folder = PurePosixPath(path).name, path.rpartition("/")[0]
    return name.endswith(".txt") and (
        (folder == "" and name.startswith("requirements")) or folder in ("requirements", "reqs")
    )


def _is_module(path: str) -> bool:
    at = PurePosixPath(path)
    if at.suffix != ".py" or path.count("/") > DEEPEST_MODULE or at.parts[0] in ("tests", "docs", "node_modules"):
        return False
    return at.stem in _MODULES or (at.parent.name == "settings" and path.count("/") <= DEEPEST_MODULE)


class Tree:
    """Holds the paths of all regular files of a commit, and the contents of those that inference reads."""

    def __init__(self, paths: Collection[str], contents: Mapping[str, bytes]) -> None:
        self.paths = frozenset(paths)
        self._contents = contents

    def __contains__(self, path: str) -> bool:
        return path in self.paths

    def bytes(self, path: str) -> bytes:
        return self._contents.get(path, b"")

    def text(self, path: str) -> str:
        return self.bytes(path).decode("utf-8-sig", errors="replace").replace("\0", "")

    def first(self, *paths: str) -> str | None:
        """Returns the first of `paths` that is a file of the commit; None if none is."""
        return next((path for path in paths if path in self.paths), None)

    def read_paths(self) -> list[str]:
        return sorted(self._contents)

    def json(self, path: str) -> dict[str, Any]:
        """Returns the object in a JSON file; empty if there is no such file or no object in it. Raises NotInferred if
        the file is not JSON.
        """
        if path not in self._contents:
            return {}
        try:
            found = json.loads(self.text(path))
        except (ValueError, RecursionError) as error:
            raise NotInferred(path, f"is not JSON: {error}") from error
        return found if isinstance(found, dict) else {}

    def toml(self, path: str) -> dict[str, Any]:
        """Returns the content of a TOML file; empty if there is no such file. Raises NotInferred if the file is not
        TOML.
        """
        if path not in self._contents:
            return {}
        try:
            return tomllib.loads(self.text(path))
        except (ValueError, RecursionError) as error:
            raise NotInferred(path, f"is not TOML: {error}") from error


def table(value: Any, *keys: str) -> dict[str, Any]:
    """Returns the object under the key path `keys` in `value`; empty if there is none."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def texts(value: Any) -> dict[str, str]:
    """Returns the entries of the object `value` whose values are strings; empty if `value` is not an object."""
    return {key: each for key, each in value.items() if isinstance(each, str)} if isinstance(value, dict) else {}
