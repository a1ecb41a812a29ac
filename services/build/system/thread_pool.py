"""Runs calls that block for long in a pool of threads of their own."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


class ThreadPool:
    """Runs blocking calls in threads of its own.

    Reading a step's output takes a thread for as long as the step runs, and so does a git that hangs. The event loop's
    default pool has six threads on two cores: six of them would fill it, and everything else in the service would wait
    for them, also each look-up of a host's name.
    """

    def __init__(self, size: int, name: str) -> None:
        self._threads = ThreadPoolExecutor(size, thread_name_prefix=name)

    def __call__(self, work: Callable[..., T], *arguments: object) -> "asyncio.Future[T]":
        """Calls `work` in a thread. The call itself cannot be cancelled, only the wait for it."""
        return asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)
