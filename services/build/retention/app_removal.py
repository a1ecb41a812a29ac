"""Removes apps on request, with everything that any service of the platform holds of them."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from pathlib import Path
from typing import Any

from services.build.builds.app import App, AppRemoval
from services.build.builds.build import StopRequest
from services.build.builds.build_store import BuildStore
from services.build.executors.executor import Executor, ExecutorObjects
from services.build.gates.report_archive import ReportFiles
from services.build.git.repository import Repositories
from services.build.logs.build_log import BuildLogs
from services.build.queue.workers import with_stop
from services.build.system.safe_remove import remove
from shared.errors import Problem, Timeout
from shared.http import ServiceClient
from shared.models import BuildState, Event

log = logging.getLogger(__name__)

AGAIN_S = 0.5


class AppRemovals:
    """Removes apps; a loop calls `step`. The request is stored in the app's record, which is deleted last, so that an
    interrupted removal continues. `forget` deletes what other stores of this service hold of an app. `undisturbed`
    keeps fetches and `git gc` away from an app's repository during a block. `wake` wakes the scheduler of builds.
    """

    def __init__(
        self,
        store: BuildStore,
        repositories: Repositories,
        logs: BuildLogs,
        reports: ReportFiles,
        releases: Path,
        executor: Executor,
        deployer: ServiceClient,
        forget: Callable[[str], Awaitable[None]],
        now: Callable[[], datetime],
        *,
        undisturbed: Callable[[str], AbstractAsyncContextManager[None]],
        wake: Callable[[], None],
    ) -> None:
        self._store = store
        self._repositories = repositories
        self._logs = logs
        self._reports = reports
        self._releases = releases
        self._executor = executor
        self._deployer = deployer
        self._forget = forget
        self._now = now
        self._undisturbed = undisturbed
        self._wake = wake

    async def begin(self, app: App, volumes: list[str] | None) -> App:
        """Stores that the app is to be removed with the volumes that `volumes` names (None: all of them), and returns
        the app. A repeated request adds to the named volumes.
        """
        before = app.removing or AppRemoval(since=self._now())
        named = None if volumes is None or before.volumes is None else sorted({*before.volumes, *volumes})
        changed = app.model_copy(update={"removing": before.model_copy(update={"volumes": named})})
        await self._store.change_app(changed)
        return changed

    async def step(self) -> float | None:
        """Does what can be done now for each app that is being removed. Returns the seconds until the next step, or
        None if no app waits.
        """
        removing = [app for app in await self._store.apps() if app.removing is not None]
        for app in removing:
            waits_for = await self._remove(app, app.removing) if app.removing is not None else ""
            if app.removing is not None and waits_for not in ("", app.removing.waits_for):
                log.info("the removal of %s %s", app.name, waits_for)
                said = app.removing.model_copy(update={"waits_for": waits_for})
                await self._store.change_app(app.model_copy(update={"removing": said}))
        return AGAIN_S if removing else None

    async def _remove(self, app: App, removal: AppRemoval) -> str:
        """Continues the removal of the app. Returns what it waits for; empty if nothing of the app is left."""
        stop = StopRequest(state=BuildState.CANCELLED, reason="the app is being removed")
        unended = [build for build in await self._store.unended() if build.app == app.name]
        for build in unended:
            await self._store.update(build.id, lambda stored: with_stop(stored, stop))
        if unended:
            self._wake()
        if waits_for := await self._ask_deployer(app.name, removal):
            return waits_for
        if unended:
            return f"waits for the end of {', '.join(build.id for build in unended)}"
        try:
            async with self._undisturbed(app.name):
                await self._repositories.in_thread(self._repositories.delete, app.name)
        except Timeout as problem:
            return f"waits: {problem.detail}"
        builds = [build async for build in self._store.every(app.name)]
        await asyncio.to_thread(self._remove_files, app.name, [build.id for build in builds])
        await self._executor.remove(ExecutorObjects(frozenset(), frozenset({app.name})))
        await self._store.drop(builds)
        await self._forget(app.name)
        reason = "the app is removed"
        await self._store.remove_app(
            app.name, Event(type="app.removed", app=app.name, at=self._now(), id=app.name, reason=reason, notify=[])
        )
        log.info("%s was removed", app.name)
        return ""

    async def _ask_deployer(self, app: str, removal: AppRemoval) -> str:
        """Asks the deployer to remove the app's environments. Returns what that removal still waits for; an empty text
        if it is done.
        """
        named: dict[str, Any] = {"volumes": "true"} if removal.volumes is None else {"volume": removal.volumes}
        try:
            answer = await self._deployer.call("DELETE", f"/apps/{app}", params=named, timeout_s=15.0)
        except Problem as problem:
            return f"waits for the deployer: {problem.detail}"
        if answer["state"] == "removed":
            return ""
        return "; ".join(f"{each}: {why}" for each, why in answer["waits_for"].items()) or "waits for the deployer"

    def _remove_files(self, app: str, builds: list[str]) -> None:
        for build in builds:
            self._logs.path(build).unlink(missing_ok=True)
            self._reports.remove(build)
        remove(self._releases / app)
