"""Finds the files of the commit to which paths and URIs in a report refer. Pure."""

import contextlib
import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import unquote, urlsplit

from services.build.git.tree_limits import LONGEST_PATH

CONTAINER_CHECKOUT = "/workspace"  # path of the checkout in a step's container
# How a command says in which folder a tool works: `cd web`, `make -C web`, `npm --prefix web`, `yarn --cwd=web`.
_WORKS_IN = re.compile(r"(?:(?:^|[\s;&|(])cd\s+|\s-C\s+|\s--(?:prefix|cwd|dir)[ =])[\"']?([\w@.+/-]+)")
_MODULE = re.compile(rb"^module[ \t]+([^\s/][^\s]*)", re.MULTILINE)


def shown_path(path: str) -> str:
    """Returns the path, if it has at most 1024 characters; else the last 1024, which can be stored and shown."""
    return path if len(path) <= LONGEST_PATH else f"…{path[-LONGEST_PATH:]}"


def working_folders(commands: Iterable[str]) -> list[str]:
    """Returns the folders below the checkout in which shell commands work: `web` for `cd web` or `npm --prefix web
    test`.
    """
    named = [posixpath.normpath(folder) for command in commands for folder in _WORKS_IN.findall(command)]
    return [folder for folder in dict.fromkeys(named) if not folder.startswith(("/", ".", "-"))]


def go_module(data: bytes) -> str:
    """Returns the module path that a `go.mod` declares; empty if it declares none. `data` is its content."""
    match = _MODULE.search(data)
    return match[1].decode(errors="replace").strip('"') if match else ""


class PathResolver:
    """Resolves paths in reports to files of the commit. It never matches just the end of a path, because a generated or
    installed file may end like a file of the commit. `tracked` holds the paths of the commit's files; `checkouts` holds
    the absolute paths under which steps see the checkout; `modules` holds module path → folder of each `go.mod`, since
    Go's reports name files by module.
    """

    def __init__(
        self, tracked: Iterable[str] = (), checkouts: Sequence[str] = (), modules: Mapping[str, str] | None = None
    ) -> None:
        self._tracked = frozenset(tracked)
        self._checkouts = [checkout.rstrip("/") for checkout in checkouts]
        self._modules = modules or {}

    def find_all(
        self, names: Iterable[str], roots: Sequence[str] = (), report: str = "", working: Sequence[str] = ()
    ) -> dict[str, str]:
        """Returns name → file of the commit, without the names that match none. `roots` are the folders that
        the report declares; `report` is the report's own path; `working` are the folders in which its step works. An
        absolute name must lie below the checkout or below one of `roots`. A relative name is looked up below each of
        `roots`. The relative names that this does not find are looked up below one common folder: of the repository's
        root, the folders that contain `report`, and `working`, the one below which most of these names exist.
        """
        roots = [root.rstrip("/") or "/" for root in roots]
        plain = {name: posixpath.normpath(_plain(name)) for name in names if len(name) <= LONGEST_PATH * 2}
        folders = [self._folder(posixpath.normpath(_plain(root))) for root in roots]
        found = {name: file for name, path in plain.items() if (file := self._by_roots(path, roots, folders))}
        left = {name: path for name, path in plain.items() if name not in found and not path.startswith("/")}
        below: list[dict[str, str]] = []
        for base in ["", *_parents(report), *working]:
            joined = {name: posixpath.normpath(posixpath.join(base, path)) for name, path in left.items()}
            below.append({name: path for name, path in joined.items() if path in self._tracked})
        return found | max(below, key=len)

    def _by_roots(self, path: str, roots: Sequence[str], folders: Sequence[str | None]) -> str | None:
        if path.startswith("/"):
            candidates = [self._folder(path)]
            candidates += [path.removeprefix(f"{root}/") for root in roots if path.startswith(f"{root}/")]
        else:
            candidates = [posixpath.normpath(posixpath.join(folder, path)) for folder in folders if folder is not None]
            candidates += [
                posixpath.normpath(posixpath.join(folder, path.removeprefix(f"{module}/")))
                for module, folder in self._modules.items()
                if path.startswith(f"{module}/")
            ]
        return next((each for each in candidates if each in self._tracked), None)

    def _folder(self, path: str) -> str | None:
        """Returns the path relative to the repository's root; None for an absolute path outside the checkout."""
        if not path.startswith("/"):
            return path
        for checkout in self._checkouts:
            if path == checkout or path.startswith(f"{checkout}/"):
                return path[len(checkout) + 1 :]
        return None


def _parents(report: str) -> list[str]:
    """Returns the folders that contain the file `report`, the nearest first, without the repository's root."""
    folders = []
    while report := posixpath.dirname(report):
        folders.append(report)
    return folders


def _plain(path: str) -> str:
    if path.startswith("file:"):
        with contextlib.suppress(ValueError):  # then it is no URI
            path = unquote(urlsplit(path).path)
    return path.replace("\\", "/")
