"""Cancels work for a client that has disconnected."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response

from shared.runtime.loops import cancel

Result = TypeVar("Result")
CLIENT_CLOSED_REQUEST = 499  # nginx's status; only metrics show it, since no client reads the answer


async def while_connected(request: Request, work: Coroutine[Any, Any, Result]) -> Result | Response:
    """Returns the result of `work`. If the client disconnects first, cancels `work` and returns an empty answer of
    status 499, so `work` must be safe to cancel at any point. The request's body must have been read before.
    """
    task, gone = asyncio.create_task(work), asyncio.create_task(_disconnected(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else Response(status_code=CLIENT_CLOSED_REQUEST)
    finally:
        await cancel([task, gone])


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
