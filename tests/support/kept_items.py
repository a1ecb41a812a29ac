"""Counts what a part of a service keeps in memory."""

from collections import deque
from collections.abc import Iterable, Mapping


def kept_items(part: object) -> int:
    """Returns the number of items in all containers that the part holds, also within its own parts."""
    if isinstance(part, Mapping):
        return len(part) + sum(map(kept_items, part.values()))
    if isinstance(part, list | set | tuple | deque):
        return len(part) + sum(map(kept_items, part))
    if type(part).__module__.startswith(("services.", "shared.")):
        own: Iterable[object] = getattr(part, "__dict__", {}).values()
        return sum(map(kept_items, own))
    return 0
