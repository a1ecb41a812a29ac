"""Cuts lists into pages, by the parameters `limit` and `cursor` of every list. Pure. A cursor is the sort key of the
last item of the page before, so that a page begins where that one ended, whatever has been added or removed since.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Annotated, TypeVar

from pydantic import Field

from shared.models import Page

Item = TypeVar("Item")
Key = TypeVar("Key", int, str)

NEXT = "Value of `next` in the page before."
Limit = Annotated[int, Field(ge=1, le=100, description="Largest number of items to return.")]
NumberCursor = Annotated[int | None, Field(ge=0, lt=10**15, description=NEXT)]
NameCursor = Annotated[str | None, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_-]{0,199}$", description=NEXT)]
TimeCursor = Annotated[str | None, Field(pattern=r"^[0-9]{13}-.+$", max_length=2000, description=NEXT)]


def time_key(at: datetime, name: str) -> str:
    """Returns the sort key of an item in a list that is ordered by time and then by name: `<milliseconds since
    1970>-<name>`.
    """
    return f"{int(at.timestamp() * 1000):013d}-{name}"


def cut(found: Sequence[Item], limit: int, key: Callable[[Item], object]) -> Page[Item]:
    """Returns a page with the first `limit` items of `found`. Its `next` is the key of its last item if `found` has
    more items, else None; callers therefore pass `limit + 1` items.
    """
    shown = list(found[:limit])
    return Page(items=shown, next=str(key(shown[-1])) if len(found) > limit else None)


def page_of(
    items: Iterable[Item],
    key: Callable[[Item], Key],
    limit: int,
    cursor: Key | None,
    *,
    newest_first: bool = True,
) -> Page[Item]:
    """Returns the page of at most `limit` items that follows the key `cursor` (None: the first page). `key` returns the
    unique key of an item, by which the items are sorted: descending with `newest_first`, else ascending.
    """
    keyed = ((key(item), item) for item in items)
    if cursor is not None:
        keyed = (pair for pair in keyed if (pair[0] < cursor if newest_first else pair[0] > cursor))
    ordered = sorted(keyed, key=lambda pair: pair[0], reverse=newest_first)
    return cut([item for _, item in ordered[: limit + 1]], limit, key)
