"""Stores the progress of a running build, change by change."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TypeVar

from services.build.builds import build as domain
from services.build.builds.build import Build
from services.build.builds.build_store import BuildStore, Change
from services.build.logs.wait_lines import WaitLines
from services.build.system.stop import Stop, Stopped
from shared.models import BuildState
from shared.security.mask import Mask
from shared.store import RedisError, redis_words

log = logging.getLogger(__name__)

RETRY_S = 0.5
Answer = TypeVar("Answer")


class BuildRecorder:
    """Stores the changes of one build. While Redis is unreachable, it tries again and passes lines about the wait to
    `say`, for the build's log. If `stop` is set during such a wait, it raises Stopped.
    """

    def __init__(
        self,
        store: BuildStore,
        build_id: str,
        stop: Stop,
        now: Callable[[], datetime],
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.store = store
        self.stop = stop
        self.now = now
        self.mask = Mask()
        """Hides the app's secrets in all texts that are stored."""
        self._id = build_id
        self._say = say
        self._lock = asyncio.Lock()  # steps run concurrently, and `build` is what was stored last
        self.build: Build
        """The build as it was last stored by this process."""

    async def load(self) -> None:
        self.build = await self.patiently(lambda: self.store.build(self._id))

    async def update(self, change: Change) -> None:
        """Calls `change` with the stored build and stores the result. If the build has ended, or a request to stop it
        is stored, it stores nothing and raises Stopped.
        """
        async with self._lock:
            self.build = await self.patiently(
                lambda: self.store.update(
                    self._id, lambda stored: stored if stored.stop else self._masked(change(stored))
                )
            )
        if self.build.ended or self.build.stop:
            raise Stopped

    async def end(self, state: BuildState, reason: str) -> None:
        """Stores the build's final state. Does nothing if the build has already ended."""
        recovered = state is BuildState.SUCCESS and await self._failed_before()
        now = self.now()
        self.build = await self.patiently(
            lambda: self.store.update(
                self._id, lambda stored: self._masked(domain.ended(stored, state, reason, now, recovered=recovered))
            )
        )

    async def withdraw_stop(self) -> None:
        """Removes the stored request to stop the build, because the request came too late."""
        self.build = await self.patiently(
            lambda: self.store.update(self._id, lambda stored: domain.with_changes(stored, stop=None))
        )

    async def patiently(self, call: Callable[[], Awaitable[Answer]]) -> Answer:
        """Returns the result of `call`, which is repeated while Redis is unreachable. Raises Stopped if the recorder's
        `stop` is set in the meantime.
        """
        lines: WaitLines | None = None
        while True:
            try:
                return await call()
            except RedisError as error:
                log.warning("build %s waits for Redis: %s", self._id, type(error).__name__)
                lines = lines or WaitLines(self._say)
                lines(f"waits for Redis: {redis_words(error)}")
            if self.stop.is_set():
                raise Stopped
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.stop.wait(), RETRY_S)

    def _masked(self, build: Build) -> Build:
        return domain.masked(build, self.mask)

    async def _failed_before(self) -> bool:
        branch = self.build.reported_branch
        if branch is None:
            return False
        last = await self.patiently(lambda: self.store.last_judged(self.build.app, branch))
        return last is not None and last.state is not BuildState.SUCCESS
