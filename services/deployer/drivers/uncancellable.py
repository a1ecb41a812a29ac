"""Work in threads, as drivers do it."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


async def uncut(work: Coroutine[Any, Any, Result]) -> Result:
    """A thread cannot be cut off, so nobody shall think that it was."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise
