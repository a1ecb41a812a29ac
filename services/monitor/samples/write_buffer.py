"""Buffers items for a store, up to a limit, while the store is unreachable."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")


class WriteBuffer(Generic[Item]):
    """Holds at most `capacity` items. Beyond that, the oldest ones are dropped."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._items: list[Item] = []

    def add(self, items: Iterable[Item]) -> None:
        self._items += items
        del self._items[: -self._capacity]

    def discard(self, is_unwanted: Callable[[Item], bool]) -> None:
        self._items = [item for item in self._items if not is_unwanted(item)]

    async def flush(self, write: Callable[[Sequence[Item]], Awaitable[None]]) -> None:
        """Passes all items to `write`, which must be idempotent. If it raises an exception, the items are kept for the
        next call.
        """
        batch, self._items = self._items, []
        try:
            await write(batch)
        except BaseException:
            self._items = (batch + self._items)[-self._capacity :]
            raise
