"""Accepts requests of people and services: releases, rollbacks, retirements, changes of an environment. It stores each
request, which the environment's reconciler then carries out.
"""

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime

from services.deployer.drivers.driver import ArtifactChanged, ArtifactGone, ArtifactUnusable, Driver, DriverError
from services.deployer.plan.action import MoveRelease
from services.deployer.plan.apply_changes import Commit, apply, release_event
from services.deployer.plan.observe import World
from services.deployer.plan.rebuild import check_rebuild
from services.deployer.releases.environment import EnvironmentId, EnvironmentState, Override
from services.deployer.releases.environment_patch import EnvironmentPatch
from services.deployer.releases.releasable import releasable
from services.deployer.releases.release import ENDED, Release, ReleaseTransition, is_same, rollback_target
from services.deployer.store import Store
from shared.errors import Conflict, NotFound, Unavailable
from shared.http import ServiceClient
from shared.manifest import Manifest
from shared.models import Artifact, BuildView, Environment, ReleaseState

WAITING = (ReleaseState.PENDING, ReleaseState.STARTING)


class ReleaseService:
    """Stores requests of people and services about releases and environments. `locks` are the environments' locks,
    shared with their reconcilers; `wake` makes the reconciler of an environment act at once.
    """

    def __init__(
        self,
        store: Store,
        driver: Driver,
        builds: ServiceClient,
        locks: Mapping[EnvironmentId, asyncio.Lock],
        wake: Callable[[EnvironmentId], None],
        now: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._driver = driver
        self._builds = builds
        self._locks = locks
        self._wake = wake
        self._now = now

    async def release(self, environment_id: EnvironmentId, build_id: str) -> tuple[Release, bool]:
        """Creates a release of the build; returns it and False. If a release of this build is pending or starting,
        returns that one and False. If the live release runs the same commit and artifact, returns that one and True.
        Raises Conflict if the build may not be released, and Unavailable if the build service or the driver's engine
        does not answer. If the build may not go to production, but production's live release runs its commit, returns
        that release and True.
        """
        build = BuildView.model_validate(await self._builds.get(f"/builds/{build_id}"))
        artifact, manifest = releasable(build, environment_id)
        async with self._locks[environment_id]:
            stored = await self._store.load(environment_id)
        if _lacks_judgement(build, environment_id):
            existing: Release | None = _of_its_commit(stored, build)
        else:
            existing = _existing(stored, build, artifact)
        if existing is None:
            check_rebuild(stored, build)
            await self._verify(artifact, build.id)
            async with self._locks[environment_id]:
                stored = await self._store.load(environment_id)
                if (existing := _existing(stored, build, artifact)) is None:
                    check_rebuild(stored, build)
                    reason = f"build {build.id} was ordered"
                    if build.rebuilds:
                        reason = f"build {build.id} takes the place of the artifact of {build.rebuilds}"
                    return await self._create(environment_id, build.id, build.commit, artifact, manifest, reason), False
        await self._run(environment_id)
        return existing, existing.state is ReleaseState.LIVE

    async def check_promotion(self, release_id: str) -> None:
        """Checks that the build of a canary release may be released to production. Raises Conflict if it may not,
        NotFound if there is no such release, and Unavailable if the build service does not answer.
        """
        release = await self._get(release_id)
        build = BuildView.model_validate(await self._builds.get(f"/builds/{release.build}"))
        production = EnvironmentId(release.app, Environment.PRODUCTION)
        releasable(build, production)
        if _lacks_judgement(build, production):
            async with self._locks[production]:
                _of_its_commit(await self._store.load(production), build)

    async def rollback(self, environment_id: EnvironmentId, to: str | None) -> Release:
        """Creates a release of the same build as release `to`; without `to`, of the same build as the last good release
        before the live one. If a pending or starting release runs the same artifact, returns that one. Raises NotFound
        if the environment has no release `to`. Raises Conflict if there is no earlier release, if the live release runs
        the same already, or if the artifact is gone.
        """
        async with self._locks[environment_id]:
            stored = await self._store.load(environment_id)
            live = stored.only(ReleaseState.LIVE)
            target = rollback_target(await self._store.releases(environment_id), live)
        if to is not None:
            target = await self._store.release(to)
            if target is None or target.environment_id != environment_id:
                raise NotFound(f"{environment_id} has no release {to}; its list of releases says which there are")
            if live is not None and is_same(live, target.commit, target.artifact.digest):
                raise Conflict(f"{to} is what {live.id} runs already; there is nothing to roll back")
        if target is None:
            raise Conflict(f"{environment_id} has no earlier release to go back to; release a build instead")
        await self._verify(target.artifact, target.id)
        async with self._locks[environment_id]:
            waiting = next(
                (r for r in (await self._store.load(environment_id)).releases.values() if r.state in WAITING), None
            )
            if waiting is not None and is_same(waiting, target.commit, target.artifact.digest):
                return waiting
            return await self._again(target, f"rolled back by hand to {target.id}")

    async def auto_rollback(self, release_id: str) -> None:
        """Creates a release of the last good build, to replace the faulty live release. If that is not possible, stores
        the reason in the faulty release. Does nothing if another release is pending, starting or live.
        """
        faulty = await self._get(release_id)
        environment_id = faulty.environment_id
        target = rollback_target(await self._store.releases(environment_id), faulty)
        refusal = "there is no earlier release to go back to"
        if target is not None:
            try:
                await self._verify(target.artifact, target.id)
            except Conflict as conflict:
                target, refusal = None, conflict.detail
        async with self._locks[environment_id]:
            stored = await self._store.load(environment_id)
            live = stored.only(ReleaseState.LIVE)
            if live is None or live.id != release_id or live.failure is None or live.automatic_rollback:
                return
            if any(release.state in WAITING for release in stored.releases.values()):
                return  # a newer release is coming anyway
            if target is None:
                noted = live.model_copy(
                    update={"automatic_rollback": refusal, "reason": f"{live.failure.reason}; {refusal}"}
                )
                await self._store.commit(environment_id, Commit(releases={live.id: noted}))
                return
            await self._again(target, f"rolled back from {live.id}: {live.failure.reason}", faulty=live)

    async def retire(self, release_id: str, state: ReleaseState, reason: str) -> Release:
        """Ends a release, in the state `state` (`retired` or `rolled_back`): its instances drain and stop. A release
        that has ended already is returned unchanged. Raises NotFound, and Conflict for a release that serves
        production.
        """
        environment_id = (await self._get(release_id)).environment_id
        async with self._locks[environment_id]:
            release = await self._get(release_id)
            if release.state in ENDED:
                return release
            serves = release.state is ReleaseState.LIVE or release.switched_at is not None
            if serves and release.environment is Environment.PRODUCTION:
                raise Conflict(f"{release_id} serves production; release another build, or roll back")
            stored = await self._store.load(environment_id)
            commit = apply([MoveRelease(release_id, state, reason or "retired by order")], stored, {}, self._now())
            await self._store.commit(environment_id, commit)
        self._wake(environment_id)
        return commit.releases[release_id]

    async def patch(self, environment_id: EnvironmentId, patch: EnvironmentPatch) -> None:
        """Changes replicas, memory limit, variables or secrets of the environment. Raises Invalid for a value that is
        wrong or out of bounds. The bounds of replicas and memory are in the manifest of the live or starting release;
        without one, raises Conflict if one of these is given.
        """
        async with self._locks[environment_id]:
            stored = await self._store.load(environment_id)
            _check_stays(environment_id, stored.override)
            if patch.replicas is not None or patch.memory is not None:
                live = stored.only(ReleaseState.LIVE) or stored.only(ReleaseState.STARTING)
                if live is None:
                    raise Conflict(
                        f"{environment_id} has no release whose manifest gives the bounds of replicas and memory; "
                        "release a build first (variables and secrets can be set before)"
                    )
                patch.check_bounds(live.manifest)
            await self._store.save_override(environment_id, patch.applied(stored.override, self._now()))
        self._wake(environment_id)

    async def _run(self, environment_id: EnvironmentId) -> None:
        """Starts the environment if it is stopped, since releasing a build to it means that it should run."""
        async with self._locks[environment_id]:
            override = (await self._store.load(environment_id)).override
            if not override.lifecycle.runs:
                await self._store.save_override(environment_id, self._running(environment_id, override))
        self._wake(environment_id)

    def _running(self, environment_id: EnvironmentId, override: Override) -> Override:
        """Returns `override` with the environment's state set to running. Raises Conflict if the environment is being
        removed.
        """
        _check_stays(environment_id, override)
        lifecycle = override.lifecycle.moved(EnvironmentState.RUNNING, "a build was released", self._now())
        return override.model_copy(update={"lifecycle": lifecycle})

    async def _get(self, release_id: str) -> Release:
        release = await self._store.release(release_id)
        if release is None:
            raise NotFound(f"there is no release {release_id}; lists of releases say which are kept")
        return release

    async def _verify(self, artifact: Artifact, of: str) -> None:
        """Checks the artifact of a build or release, which `of` names. Raises Conflict if the artifact is missing or
        has changed, and Unavailable if the driver's engine does not answer.
        """
        try:
            await self._driver.verify(artifact)
        except ArtifactGone as error:
            raise Conflict(f"the artifact of {of} has been cleaned up ({error}); build its commit again") from error
        except ArtifactChanged as error:
            raise Conflict(
                f"the artifact of {of} is not what passed the gates ({error}); build its commit again "
                "(an app that writes files finds $HOME and $TMPDIR for them)"
            ) from error
        except ArtifactUnusable as error:
            raise Conflict(f"the artifact of {of} cannot be run any more ({error}); build its commit again") from error
        except DriverError as error:
            raise Unavailable(str(error)) from error

    async def _again(self, target: Release, reason: str, faulty: Release | None = None) -> Release:
        return await self._create(
            target.environment_id, target.build, target.commit, target.artifact, target.manifest, reason, faulty
        )

    async def _create(
        self,
        environment_id: EnvironmentId,
        build: str,
        commit: str,
        artifact: Artifact,
        manifest: Manifest,
        reason: str,
        faulty: Release | None = None,
    ) -> Release:
        """Stores a new pending release and wakes the reconciler; a stopped environment starts again. The caller must
        hold the environment's lock. Raises Conflict if the environment is being removed.
        """
        override = self._running(environment_id, (await self._store.load(environment_id)).override)
        number, now, pending = await self._store.next_number(environment_id.app), self._now(), ReleaseState.PENDING
        created = Release(
            id=f"{environment_id.app}-r{number}",
            number=number,
            app=environment_id.app,
            environment=environment_id.environment,
            build=build,
            commit=commit,
            artifact=artifact,
            manifest=manifest,
            state=pending,
            reason=reason,
            history=[ReleaseTransition(state=pending, reason=reason, at=now)],
            created_at=now,
            replaces_faulty=faulty.id if faulty else None,
        )
        releases = {created.id: created}
        if faulty is not None:
            releases[faulty.id] = faulty.model_copy(update={"automatic_rollback": created.id})
        ordered = Commit(releases=releases, events=[release_event(created, now)], override=override)
        await self._store.commit(environment_id, ordered)
        self._wake(environment_id)
        return created


def _check_stays(environment_id: EnvironmentId, override: Override) -> None:
    if override.lifecycle.state is EnvironmentState.REMOVING:
        raise Conflict(f"{environment_id} is being removed; when it is gone (404), a release makes it anew")


def _existing(stored: World, build: BuildView, artifact: Artifact) -> Release | None:
    """Returns the release because of which the build needs no new one; None if there is none. That is the newest
    pending or starting release if it is of this build. If none is pending or starting, it is the live release if it
    runs the same commit and artifact.
    """
    waiting = sorted((r for r in stored.releases.values() if r.state in WAITING), key=lambda r: -r.number)
    if waiting:
        return waiting[0] if waiting[0].build == build.id else None
    live = stored.only(ReleaseState.LIVE)
    is_usable = live is not None and live.rebuild is None
    return live if live is not None and is_usable and is_same(live, build.commit, artifact.digest) else None


def _lacks_judgement(build: BuildView, environment_id: EnvironmentId) -> bool:
    return environment_id.environment is Environment.PRODUCTION and bool(build.promotion_refusal)


def _of_its_commit(production: World, build: BuildView) -> Release:
    """Returns production's live release if it runs the build's commit, from another build of that commit. Raises
    Conflict if it does not, because `build` was not judged by all steps and gates of production."""
    live = production.only(ReleaseState.LIVE)
    if live is None or live.commit != build.commit:
        raise Conflict(build.promotion_refusal)
    return live
