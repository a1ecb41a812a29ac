"""What is not stored yet: kept while the store is away, within bounds."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")


class WriteBuffer(Generic[Item]):
    """Holds at most `most` items; the oldest are let go first."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._items: list[Item] = []

    def add(self, items: Iterable[Item]) -> None:
        self._items += items
        del self._items[: -self._most]

    async def flush(self, write: Callable[[Sequence[Item]], Awaitable[None]]) -> None:
        """Writes all of them; if that raises, they are kept for the next time, so `write` must be safe to repeat."""
        batch, self._items = self._items, []
        try:
            await write(batch)
        except BaseException:
            self._items = (batch + self._items)[-self._most :]
            raise
