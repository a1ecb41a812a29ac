"""Finds the file of the commit that a report names, by path or URI, absolute or below a root. Pure."""

import contextlib
import posixpath
from collections.abc import Iterable, Sequence
from urllib.parse import unquote, urlsplit

from services.build.git.tree_limits import LONGEST_PATH


class PathResolver:
    """Resolves names in reports to paths of the commit. `tracked` holds the paths of its files."""

    def __init__(self, tracked: Iterable[str] = ()) -> None:
        self._tracked = frozenset(tracked)

    def find(self, path: str, roots: Sequence[str] = ()) -> str | None:
        """Returns the tracked file whose path is the longest end of `path`, below each of `roots` in turn, then by
        itself; None if no end of it is a tracked file."""
        for whole in [*(posixpath.join(root, path) for root in roots), path]:
            parts = _end(posixpath.normpath(_plain(whole))).split("/")
            for start in range(len(parts)):
                if (end := "/".join(parts[start:])) in self._tracked:
                    return end
        return None


def _end(path: str) -> str:
    """Returns as much of the end of a path as a tracked file's path may be: each end of it is tried."""
    return path if len(path) <= LONGEST_PATH else path[-LONGEST_PATH - 1 :].partition("/")[2]


def _plain(path: str) -> str:
    if path.startswith("file:"):
        with contextlib.suppress(ValueError):  # it is no URI then
            path = unquote(urlsplit(path).path)
    return path.replace("\\", "/")
