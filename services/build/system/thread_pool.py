"""Runs long blocking calls in a thread pool of its own."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


class ThreadPool:
    """Runs blocking calls in a thread pool of its own. Calls that take as long as a build's step would use up the event
    loop's default pool, which has six threads on two cores, and so block everything else that needs it, such as DNS
    lookups.
    """

    def __init__(self, size: int, name: str) -> None:
        self._threads = ThreadPoolExecutor(size, thread_name_prefix=name)

    def __call__(self, work: Callable[..., T], *arguments: object) -> "asyncio.Future[T]":
        """Calls `work` in a thread of the pool, and returns a future with its result. Cancelling the future ends the
        wait, but not the call.
        """
        return asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)
