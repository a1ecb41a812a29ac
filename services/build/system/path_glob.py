"""Matches paths with patterns as git does. Pure."""

import fnmatch
import re
from collections.abc import Sequence

WILD = frozenset("*?")


def is_glob(pattern: str) -> bool:
    return not WILD.isdisjoint(pattern)


class PathGlob:
    """Matches relative paths with a pattern: `*` and `?` match no `/`, `**` matches any number of folders."""

    def __init__(self, pattern: str) -> None:
        self._parts = [
            None if part == "**" else re.compile(fnmatch.translate(part)) for part in pattern.lstrip("/").split("/")
        ]

    def matches(self, parts: Sequence[str]) -> bool:
        """Returns True if the pattern matches the path. `parts` holds the path's parts between slashes."""
        places = {0}  # numbers of parts of the path matched so far; the time is bounded for every pattern
        for place, expression in enumerate(self._parts, 1):
            if expression is None:
                least = min(places) + (place == len(self._parts))  # a final `**` matches at least one part
                places = set(range(least, len(parts) + 1))
            else:
                places = {at + 1 for at in places if at < len(parts) and expression.match(parts[at])}
            if not places:
                return False
        return len(parts) in places


def fixed_folder(pattern: str) -> str:
    """Returns the folder that contains all paths which the pattern can match: `docs/api` for `docs/api/*/a.md`, an
    empty text for `*.md`. The pattern must contain a wildcard.
    """
    parts = pattern.split("/")
    wild = next(place for place, part in enumerate(parts) if is_glob(part))
    return "/".join(parts[:wild])
