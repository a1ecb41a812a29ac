"""Calls a function on SIGTERM or SIGINT, before uvicorn closes open streams."""

import asyncio
import contextlib
import signal
import threading
from collections.abc import AsyncIterator, Callable
from types import FrameType
from typing import Any


@contextlib.asynccontextmanager
async def at_the_end(close: Callable[[], None]) -> AsyncIterator[None]:
    """Calls `close` in the event loop on SIGTERM or SIGINT, and again at the end of the block, so `close` must be
    idempotent. It should end open streams, because uvicorn breaks them off with an error after 1 s.
    """
    loop = asyncio.get_running_loop()
    handlers: dict[int, Callable[[int, FrameType | None], Any]] = {}

    def end(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(close)
        handlers[number](number, frame)

    if threading.current_thread() is threading.main_thread():  # other threads get no signals
        for number in (signal.SIGTERM, signal.SIGINT):
            handler = signal.getsignal(number)
            if callable(handler):  # the handler of uvicorn
                handlers[number] = handler
                signal.signal(number, end)
    try:
        yield
    finally:
        for each, handler in handlers.items():
            signal.signal(each, handler)
        close()
