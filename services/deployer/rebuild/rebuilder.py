"""Requests a new build of a live release's commit from the build service, follows it, and records its outcome."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from datetime import datetime

from services.deployer.drivers.driver import ArtifactUnusable, Driver
from services.deployer.plan.apply_changes import Commit, artifact_event
from services.deployer.releases.environment import EnvironmentId
from services.deployer.releases.rebuild import Rebuild, asked, failed, postponed
from services.deployer.releases.release import Release
from services.deployer.store import Store
from shared.errors import Problem
from shared.http import ServiceClient
from shared.models import BuildState, BuildView, ReleaseState

log = logging.getLogger(__name__)

UNDER_WAY = frozenset({BuildState.QUEUED, BuildState.RUNNING})


class Rebuilder:
    """Has the artifact of a live release built again if the release's record asks for it (`Release.rebuild`). After the
    build, the build service itself requests the new release, as after a push; so a rebuild has succeeded once its
    release is no longer live. Each step may be repeated: while a build for a release is under way, the build service
    starts no second one. `locks` are the environments' locks, shared with their reconcilers.
    """

    def __init__(
        self,
        store: Store,
        driver: Driver,
        builds: ServiceClient,
        locks: Mapping[EnvironmentId, asyncio.Lock],
        now: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._driver = driver
        self._builds = builds
        self._locks = locks
        self._now = now

    async def step(self, release_id: str) -> None:
        """Requests the release's rebuild if that is due, or follows the one that is under way. Raises RedisError, and
        DriverError if the engine does not answer.
        """
        release = await self._store.release(release_id)
        if release is None or release.state is not ReleaseState.LIVE or release.rebuild is None:
            return
        if release.rebuild.build:
            await self._follow(release, release.rebuild)
        elif release.rebuild.next_at <= self._now():
            await self._begin(release, release.rebuild)

    async def _begin(self, release: Release, rebuild: Rebuild) -> None:
        try:
            await self._driver.verify(release.artifact)
        except ArtifactUnusable:
            pass
        else:
            log.info("the artifact of %s is there again", release.id)
            await self._store_rebuild(release, None, "found", "its artifact is there again")
            return
        body = {"release": release.id, "environment": release.environment, "commit": release.commit}
        try:
            path = f"/apps/{release.app}/rebuilds"
            build = BuildView.model_validate(await self._builds.post(path, body, repeatable=True))
        except Problem as problem:
            if problem.status < 500:
                await self._failed(release, rebuild, problem.detail)
            else:
                await self._store_rebuild(release, postponed(rebuild, f"waits: {problem.detail}"))
            return
        log.info("%s: %s; %s builds its commit again", release.id, rebuild.cause, build.id)
        await self._store_rebuild(release, asked(rebuild, build.id))

    async def _follow(self, release: Release, rebuild: Rebuild) -> None:
        try:
            build = BuildView.model_validate(await self._builds.get(f"/builds/{rebuild.build}"))
        except Problem as problem:
            if problem.status < 500:
                await self._failed(release, rebuild, problem.detail)
            return
        if build.state not in UNDER_WAY:
            await self._failed(release, rebuild, f"{build.id} ended in {build.state}: {build.reason}")

    async def _failed(self, release: Release, rebuild: Rebuild, why: str) -> None:
        again = failed(rebuild, why, self._now())
        log.warning("%s: %s", release.id, again.problem)
        await self._store_rebuild(release, again, "lost", again.problem)

    async def _store_rebuild(
        self, release: Release, rebuild: Rebuild | None, state: str = "", reason: str = ""
    ) -> None:
        """Stores the rebuild, and the event `artifact.<state>` unless `state` is empty. Does nothing if the release is
        not live any more, or if its rebuild has changed since `release` was read.
        """
        async with self._locks[release.environment_id]:
            stored = await self._store.release(release.id)
            if stored is None or stored.state is not ReleaseState.LIVE or stored.rebuild != release.rebuild:
                return
            changed = stored.model_copy(update={"rebuild": rebuild})
            events = [artifact_event(state, changed, reason, self._now())] if state else []
            await self._store.commit(release.environment_id, Commit(releases={changed.id: changed}, events=events))
