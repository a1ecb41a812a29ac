"""Divides long work on the event loop into slices, so that a request waits for one slice at most."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")

SLICE = 25  # flags whose reading or evaluation takes 1 to 3 ms


async def sliced(items: Iterable[Item], size: int = SLICE) -> AsyncIterator[list[Item]]:
    """Yields the items in lists of at most `size`. Between two lists, other tasks of the event loop run."""
    rest = iter(items)
    part = list(islice(rest, size))
    while part:
        yield part
        part = list(islice(rest, size))
        if part:
            await asyncio.sleep(0)
