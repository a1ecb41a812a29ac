"""Carries out the schedule, with one task for each running build."""

import asyncio
import contextlib
import itertools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import datetime
from functools import partial

from services.build.builds import build as domain
from services.build.builds.build import Build, StopRequest
from services.build.builds.build_store import BuildStore
from services.build.logs.build_log import BuildLogs
from services.build.logs.wait_lines import WaitLines
from services.build.queue.schedule import End, Start, plan, waits
from services.build.system.stop import Stop
from shared.models import BuildState

log = logging.getLogger(__name__)

STOP_TIMEOUT_S = 10.0
RunBuild = Callable[[str, Stop], Awaitable[None]]


class Workers:
    """Starts, stops and ends builds. A loop calls `step`. `run` runs one build to its end. `may_work` returns False
    while another process of this service runs the builds; `shortage` returns why no build may begin now, or an empty
    text; `wake` makes the loop call `step` soon.
    """

    def __init__(
        self,
        store: BuildStore,
        logs: BuildLogs,
        run: RunBuild,
        concurrency: int,
        now: Callable[[], datetime],
        may_work: Callable[[], Awaitable[bool]],
        shortage: Callable[[], str] = str,
        *,
        wake: Callable[[], None],
    ) -> None:
        self._store = store
        self._may_work = may_work
        self._shortage = shortage
        self._logs = logs
        self._run = run
        self._concurrency = concurrency
        self._now = now
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._stops: dict[str, Stop] = {}
        self._waits: dict[str, WaitLines] = {}
        self._served: dict[str, int] = {}  # empty after a restart, so that the oldest build starts
        self._turns = itertools.count(1)
        self._wake = wake

    async def step(self) -> None:
        if not await self._may_work():
            self._stop_all()
            return
        unended = await self._store.unended()
        builds = {build.id: build for build in unended}
        shortage, held = self._shortage(), set[str]()
        for action in plan(unended, self._tasks, self._concurrency, self._served):
            if isinstance(action, Start):
                if shortage and not builds[action.build].deploying:
                    held.add(action.build)
                    continue
                self._served[builds[action.build].app] = next(self._turns)
                self._start(action.build)
            elif isinstance(action, End):
                await self._end(action.build, action.stop)
            else:
                await self._halt(action.build, action.stop)
        self._say_waits(waits(unended, self._tasks, self._concurrency) | dict.fromkeys(held, f"waits: {shortage}"))

    def _say_waits(self, reasons: Mapping[str, str]) -> None:
        """Writes into the log of each queued build what it waits for. `reasons` holds build id → reason."""
        self._waits = {each: self._waits.get(each) or WaitLines(partial(self._logs.say, each)) for each in reasons}
        for build_id, reason in reasons.items():
            self._waits[build_id](reason)

    @contextlib.asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """Stops the running builds when the block ends. Their records stay unfinished, so that the next service resumes
        them.
        """
        try:
            yield
        finally:
            self._stop_all()
            if self._tasks:
                _, late = await asyncio.wait(list(self._tasks.values()), timeout=STOP_TIMEOUT_S)
                for task in late:
                    task.cancel()

    def _stop_all(self) -> None:
        for stop in self._stops.values():
            stop.set()

    def _start(self, build_id: str) -> None:
        stop = self._stops[build_id] = Stop()
        task = self._tasks[build_id] = asyncio.create_task(self._work(build_id, stop), name=f"build {build_id}")
        task.add_done_callback(lambda _: self._done(build_id))

    async def _work(self, build_id: str, stop: Stop) -> None:
        try:
            await self._run(build_id, stop)
        except Exception:
            log.exception("the run of %s was interrupted by an error; it begins again", build_id)
            await asyncio.sleep(1)

    def _done(self, build_id: str) -> None:
        del self._tasks[build_id], self._stops[build_id]
        self._logs.wake(build_id)
        self._wake()

    async def _end(self, build_id: str, stop: StopRequest) -> None:
        self._logs.say(build_id, f"{build_id} {stop.state}: {stop.reason}")
        await self._store.update(
            build_id, lambda build: _if_queued(build, domain.ended(build, stop.state, stop.reason, self._now()))
        )
        self._logs.wake(build_id)

    async def _halt(self, build_id: str, stop: StopRequest | None) -> None:
        """Stops the build if this process runs it and a stop is stored. Stores `stop` first, if there is one, because
        the service may be killed in between.
        """
        build = await self._store.update(build_id, lambda stored: with_stop(stored, stop) if stop else stored)
        if build.stop is not None and build_id in self._stops:
            self._stops[build_id].set()


def with_stop(build: Build, stop: StopRequest) -> Build:
    """Returns the build with the stop request; unchanged if it already has one. A build that has passed its gates can
    only be cancelled, and only while it is being deployed; otherwise it is also returned unchanged.
    """
    may_stop = not build.passed or (build.deploying and build.environment and stop.state is BuildState.CANCELLED)
    return domain.with_changes(build, stop=stop) if may_stop and not build.stop else build


def _if_queued(build: Build, ended: Build) -> Build:
    return ended if build.state is BuildState.QUEUED else build
