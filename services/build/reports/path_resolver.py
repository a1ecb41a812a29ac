"""Finds the file of the commit that a path or URI in a report means. Pure."""

import contextlib
import posixpath
from collections.abc import Iterable, Sequence
from urllib.parse import unquote, urlsplit

from services.build.git.tree_limits import LONGEST_PATH


class PathResolver:
    """Resolves paths in reports to files of the commit. `tracked` holds the paths of its files."""

    def __init__(self, tracked: Iterable[str] = ()) -> None:
        self._tracked = frozenset(tracked)

    def find(self, path: str, roots: Sequence[str] = ()) -> str | None:
        """Returns the file of the commit whose path is the longest suffix of `path`; None if there is none. Tries
        `path` below each of `roots` first, then `path` alone."""
        for whole in [*(posixpath.join(root, path) for root in roots), path]:
            parts = _end(posixpath.normpath(_plain(whole))).split("/")
            for start in range(len(parts)):
                if (end := "/".join(parts[start:])) in self._tracked:
                    return end
        return None


def _end(path: str) -> str:
    """Returns the end of a path, at most as long as a path in a commit may be. That bounds the number of suffixes to
    try.
    """
    return path if len(path) <= LONGEST_PATH else path[-LONGEST_PATH - 1 :].partition("/")[2]


def _plain(path: str) -> str:
    if path.startswith("file:"):
        with contextlib.suppress(ValueError):  # it is no URI then
            path = unquote(urlsplit(path).path)
    return path.replace("\\", "/")
