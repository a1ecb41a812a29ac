"""Waits for work in threads to end, even when the waiting task is cancelled."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


async def uncancellable(work: Coroutine[Any, Any, Result]) -> Result:
    """Waits for the work even when cancelled, then re-raises the CancelledError: a thread cannot be interrupted."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise
