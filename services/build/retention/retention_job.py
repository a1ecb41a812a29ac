"""Deletes files and records of builds by the retention policy. Before a file is deleted, its build records that."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from services.build.builds.build import Build, Expired
from services.build.builds.build_store import BuildStore
from services.build.executors.executor import Images
from services.build.gates.report_archive import SUFFIX, ReportFiles
from services.build.logs.build_log import BuildLogs
from services.build.retention.retention_policy import RetentionPolicy, due
from services.build.system.safe_remove import remove
from shared.errors import Problem
from shared.host.artifact_folder import artifact_folder
from shared.http import ServiceClient
from shared.models import Environment, ReleaseView

log = logging.getLogger(__name__)

FOREVER_DAYS = 36_500
SLACK = timedelta(minutes=10)  # a release that was requested before the note is stored by then


class RetentionJob:
    """Applies the retention policy. A loop calls `step`, which may be interrupted at any point. An artifact is deleted
    only once the deployer has said that no release uses it. `images` returns (tag, digest) of all images that are
    artifacts; None if that is unknown. While `trusts_clock` returns False, as after a jump of the clock, nothing is
    deleted because of its age."""

    def __init__(
        self,
        store: BuildStore,
        logs: BuildLogs,
        reports: ReportFiles,
        releases: Path,
        deployer: ServiceClient,
        images: Callable[[], Awaitable[Images | None]],
        policy: RetentionPolicy,
        now: Callable[[], datetime],
        trusts_clock: Callable[[datetime], Awaitable[bool]],
    ) -> None:
        self._store = store
        self._logs = logs
        self._reports = reports
        self._releases = releases
        self._deployer = deployer
        self._images = images
        self._policy = policy
        self._now = now
        self._trusts_clock = trusts_clock

    async def step(self) -> None:
        policy = self._policy
        if not await self._trusts_clock(self._now()):
            log.warning("the clock has jumped within the last day: nothing is deleted because of its age")
            policy = replace(policy, days=FOREVER_DAYS)
        images = await self._images()
        apps = {app.name for app in await self._store.apps()}
        known = await self._store.ids()
        for app in sorted({build_id.rpartition("-")[0] for build_id in known}):
            await self._step(app, await self._builds(app), images, policy, deleted=app not in apps)
        await asyncio.to_thread(self._remove_strays, known, self._now() - timedelta(days=policy.days))

    async def _step(
        self, app: str, builds: list[Build], images: Images | None, policy: RetentionPolicy, *, deleted: bool
    ) -> None:
        judged = await self._store.judged(app)
        now = self._now()
        found = due(builds, policy, judged, now, deleted=deleted)
        for build in found.logs:
            await self._store.note(build.id, Expired(log=now))
        await self._note_images(builds, images, now)
        await self._remove_artifacts(app, builds, found.artifacts, now)
        expired = [build.id for build in found.logs] + [each.id for each in builds if each.expired.log]
        await asyncio.to_thread(self._remove_logs, expired)
        if found.records:
            await self._store.drop(found.records)
            log.info("%d records of builds of %s were deleted", len(found.records), app)

    async def _builds(self, app: str) -> list[Build]:
        """Returns the app's builds, newest first, without fields that retention does not need, because the whole builds
        of all apps may not fit in memory.
        """
        without: dict[str, Any] = {"steps": [], "gates": [], "flaky": [], "manifest": None}
        return [build.model_copy(update=without) async for build in self._store.every(app)]

    async def _note_images(self, builds: list[Build], images: Images | None, now: datetime) -> None:
        """Records as deleted (`expired`) the artifacts whose images no longer exist: the deployer deletes images, not
        this job. Does nothing if `images` is None (unknown).
        """
        if images is None:
            return
        for build in builds:
            artifact = build.artifact if build.ended and not build.expired.artifact else None
            if artifact and artifact.kind == "image" and (artifact.ref, artifact.digest) not in images:
                await self._store.note(build.id, Expired(artifact=now))

    async def _remove_artifacts(self, app: str, builds: list[Build], candidates: list[Build], now: datetime) -> None:
        """Records the artifacts of `candidates`, the builds whose artifacts the policy does not keep, as expired,
        unless a release uses them. A later call, at least 10 minutes afterwards, deletes them: by then the deployer
        surely lists every release that was requested before. `builds` holds all builds of the app.
        """
        held = {
            build.id: str(artifact_folder(self._releases.parent, build.artifact.ref))
            for build in builds
            if build.artifact and build.artifact.kind == "directory"
        }
        there = await asyncio.to_thread(lambda: {ref for ref in set(held.values()) if Path(ref).exists()})
        for build in builds:
            if build.ended and build.id in held and held[build.id] not in there and not build.expired.artifact:
                await self._store.note(build.id, Expired(artifact=now))  # the deployer has removed it
        candidates = [build for build in candidates if held[build.id] in there]
        noted = [build for build in builds if build.expired.artifact and held.get(build.id) in there]
        if not noted and not candidates:
            return
        try:
            released = await self._released(app)
        except Problem as problem:
            log.info("artifacts of %s are kept: the deployer did not say which it needs (%s)", app, problem.detail)
            return
        used = {held[build.id] for build in builds if build.id in held and build.id in released}
        for build in candidates:
            if held[build.id] not in used:
                await self._store.note(build.id, Expired(artifact=now))
        used |= {held[build.id] for build in builds if build.id in held and not build.expired.artifact}
        for build in noted:
            since, path = build.expired.artifact, Path(held[build.id])
            if since and since < now - SLACK and held[build.id] not in used and path.parent == self._releases / app:
                await asyncio.to_thread(remove, path)
                log.info("the artifact of %s was deleted", build.id)

    async def _released(self, app: str) -> set[str]:
        """Returns the ids of the builds of which the deployer lists a release of the app, in any state. Raises Problem
        if the deployer does not answer.
        """
        builds: set[str] = set()
        for environment in Environment:
            cursor: str | None = None
            while True:
                path = f"/apps/{app}/environments/{environment}/releases"
                answer = await self._deployer.call(
                    "GET", path, params={"limit": 100} | ({"cursor": cursor} if cursor else {})
                )
                builds |= {ReleaseView.model_validate(item).build for item in answer["items"]}
                cursor = answer["next"]
                if cursor is None:
                    break
        return builds

    def _remove_logs(self, builds: list[str]) -> None:
        for build in builds:
            self._logs.path(build).unlink(missing_ok=True)
            self._reports.remove(build)

    def _remove_strays(self, known: set[str], oldest: datetime) -> None:
        """Removes the logs and reports of builds without a record, whose ids are not in `known`, if they are older than
        `oldest`.
        """
        files = [*self._logs.folder.glob("*.log"), *self._reports.folder.glob(f"*{SUFFIX}")]
        for path in files:
            build = path.name.removesuffix(SUFFIX).removesuffix(".log")
            if build not in known and path.stat().st_mtime < oldest.timestamp():
                path.unlink(missing_ok=True)
