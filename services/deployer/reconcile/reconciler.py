"""Runs the deployer's background loops: they reconcile all environments, remove old artifacts, and limit logs."""

import asyncio
import contextlib
import logging
import math
import shutil
import time
from collections.abc import AsyncIterator, Callable, MutableMapping, Sequence
from functools import partial
from pathlib import Path

from services.deployer.drivers.driver import Driver, DriverError
from services.deployer.reconcile.environment_reconciler import EnvironmentReconciler
from services.deployer.releases.environment import EnvironmentId
from services.deployer.releases.release import needed_artifacts, unneeded_folders
from services.deployer.store import Store
from shared.host.artifact_folder import artifact_folder
from shared.models import Artifact, Environment
from shared.runtime.keyed_tasks import KeyedTasks
from shared.runtime.loops import Loop
from shared.store import RedisError

log = logging.getLogger(__name__)

LONGEST_WAIT_S = 1.0
ROUNDS_AT_ONCE = 32
HANGS_S = 15.0
SEAL_WITHIN_S = 1.0


class Reconciler:
    """Reconciles each environment when it is due, at most 32 at the same time; those that have been due longest come
    first. A slow or failing environment delays no other.
    """

    def __init__(self, store: Store, make_reconciler: Callable[[EnvironmentId], EnvironmentReconciler]) -> None:
        self.loop = Loop("reconcile", self.step, every_s=LONGEST_WAIT_S)
        self.problems: dict[EnvironmentId, str] = {}
        self._store = store
        self._make_reconciler = make_reconciler
        self._reconcilers: dict[EnvironmentId, EnvironmentReconciler] = {}
        self._rounds = KeyedTasks("reconcile", self.loop.wake, at_a_time=ROUNDS_AT_ONCE)
        self._begun_at: dict[EnvironmentId, float] = {}
        self._are_loaded = False

    def wake(self, environment_id: EnvironmentId) -> None:
        """Makes the environment due now, so that it is reconciled at once."""
        _make_due(self._reconciler(environment_id))
        self.loop.wake()

    async def forget(self, environment_id: EnvironmentId) -> None:
        """Drops what this process remembers of the environment, as a restart would. The caller must hold the
        environment's lock.
        """
        self.problems.pop(environment_id, None)
        if (reconciler := self._reconcilers.pop(environment_id, None)) is not None:
            await reconciler.close()

    def sync_again(self, environment_id: EnvironmentId) -> None:
        """Makes the environment, if this process knows it, send the app's host names to the proxy again."""
        if (reconciler := self._reconcilers.get(environment_id)) is not None:
            reconciler.sync_again()
            self.wake(environment_id)

    def instance_ended(self, instance_id: str | None) -> None:
        """Makes the environment of the ended instance due now. None says that any instance may have ended, and makes
        every environment due.
        """
        for reconciler in self._reconcilers.values():
            if instance_id is None or instance_id in (reconciler.instance_ids or ()):
                _make_due(reconciler)
        self.loop.wake()

    async def step(self) -> float:
        """Starts to reconcile the environments that are due. One that is woken while it is being reconciled becomes due
        again. Returns the seconds until the next one is due.
        """
        if not self._are_loaded:
            for environment_id in await self._store.environments():
                self._reconciler(environment_id)
            self._are_loaded = True
        now = time.monotonic()
        due = [each for each in self._reconcilers.values() if each.due_at <= now]
        for reconciler in sorted(due, key=lambda each: each.due_at):
            if self._rounds.runs(reconciler.environment_id):
                continue
            if not self._rounds.has_room_for(reconciler.environment_id):
                return math.inf  # the end of a step wakes the loop
            reconciler.due_at = float("inf")  # a wake-up from now on makes it due again
            self._rounds.start(reconciler.environment_id, partial(self._round, reconciler))
        return min((each.due_at - now for each in self._reconcilers.values() if each.due_at > now), default=math.inf)

    async def check(self) -> str | None:
        """Returns which environments cannot be reconciled, and why, to be shown by `GET /ready`; None if there are
        none.
        """
        ages = {each: time.monotonic() - begun_at for each, begun_at in self._begun_at.items()}
        hanging = {each: f"its reconciling still runs after {age:.0f} s" for each, age in ages.items() if age > HANGS_S}
        return "; ".join(f"{each}: {why}" for each, why in (self.problems | hanging).items()) or None

    async def close(self) -> None:
        """Ends reconciling and all background work; instances go on running."""
        await self._rounds.close()
        await asyncio.gather(*(reconciler.close() for reconciler in self._reconcilers.values()))

    async def _round(self, reconciler: EnvironmentReconciler) -> None:
        environment_id = reconciler.environment_id
        self._begun_at[environment_id] = time.monotonic()
        try:
            await reconciler.step()
            self.problems.pop(environment_id, None)
        except Exception as error:
            reconciler.due_at = time.monotonic() + 1.0
            why = f"{type(error).__name__}: {error}"
            if self.problems.get(environment_id) != why:
                is_outside = isinstance(error, RedisError | DriverError)
                log.error("%s cannot be reconciled: %s", environment_id, why, exc_info=not is_outside)
            self.problems[environment_id] = why
        finally:
            del self._begun_at[environment_id]

    def _reconciler(self, environment_id: EnvironmentId) -> EnvironmentReconciler:
        if environment_id not in self._reconcilers:
            self._reconcilers[environment_id] = self._make_reconciler(environment_id)
        return self._reconcilers[environment_id]


def _make_due(reconciler: EnvironmentReconciler) -> None:
    reconciler.due_at = min(reconciler.due_at, time.monotonic())


class Housekeeping:
    """Removes artifacts and records of releases that are no longer needed, and limits the size of logs. It reads the
    releases of an app only after they have changed, and after each start of the service. Once after each start, it also
    encrypts each environment's stored variables and secrets again, in case they are in plain text or use an older key.
    If the lock of an environment is taken, its work is left for a later step.
    """

    def __init__(
        self,
        store: Store,
        driver: Driver,
        locks: MutableMapping[EnvironmentId, asyncio.Lock],
        home: Path,
        releases_kept: int,
        records_kept: int,
    ) -> None:
        self._store = store
        self._driver = driver
        self._locks = locks
        self._home = home
        self._releases_kept = releases_kept
        self._records_kept = records_kept
        self._sealed: set[EnvironmentId] = set()
        self._needed: dict[str, list[Artifact]] = {}
        self._seen_versions: dict[str, int] = {}

    async def step(self) -> None:
        environment_ids = await self._store.environments()
        for environment_id in environment_ids:
            if environment_id not in self._sealed:
                await self._seal(environment_id)
        for app in sorted({each.app for each in environment_ids}):
            if self._store.version(app) != self._seen_versions.get(app):
                await self._remove_unneeded(app)
        for app in self._needed.keys() - {each.app for each in environment_ids}:
            del self._needed[app]
        await self._store.prune(environment_ids, releases=self._releases_kept, records=self._records_kept)
        await self._driver.collect_garbage([artifact for of_app in self._needed.values() for artifact in of_app])

    async def _seal(self, environment_id: EnvironmentId) -> None:
        async with self._locked([environment_id], SEAL_WITHIN_S) as is_locked:
            if is_locked:
                override = (await self._store.load(environment_id)).override
                if override.variables or override.secrets:
                    await self._store.save_override(environment_id, override)
                self._sealed.add(environment_id)

    async def _remove_unneeded(self, app: str) -> None:
        """Determines which artifacts the app needs, and deletes the folders of the others. It renames them while it
        holds the locks, which prevent new releases, and deletes them afterwards. (An image may be deleted while a
        release of it is created; that release then fails and says so.)
        """
        environment_ids = [EnvironmentId(app, environment) for environment in Environment]
        async with self._locked(environment_ids, 0) as is_locked:
            version = self._store.version(app)
            by_environment = [await self._store.releases(each) for each in environment_ids]
            stored = [await self._store.load(each) for each in environment_ids]
            in_use = {instance.release for each in stored for instance in each.instances.values()}
            needed = [a for r in by_environment for a in needed_artifacts(r, self._releases_kept, in_use)]
            refs = unneeded_folders(by_environment, needed) if is_locked else set()
            aside = await asyncio.to_thread(_set_aside, sorted(artifact_folder(self._home, ref) for ref in refs))
        self._needed[app] = needed
        for path in aside:
            await asyncio.to_thread(shutil.rmtree, path, ignore_errors=True)
        if is_locked and not any(path.exists() for path in aside):
            self._seen_versions[app] = version

    @contextlib.asynccontextmanager
    async def _locked(self, environment_ids: Sequence[EnvironmentId], within_s: float) -> AsyncIterator[bool]:
        """Holds the locks of all these environments during a `with` block, and yields True. If one is not free within
        `within_s` seconds, holds none and yields False. With several locks `within_s` must be 0, because waiting for
        one while holding another would block that environment.
        """
        async with contextlib.AsyncExitStack() as held:
            is_locked = True
            try:
                async with asyncio.timeout(within_s):  # a free lock is acquired without suspension, so even with 0
                    for environment_id in environment_ids:
                        await held.enter_async_context(self._locks[environment_id])
            except TimeoutError:
                await held.aclose()
                is_locked = False
            yield is_locked


def _set_aside(folders: list[Path]) -> list[Path]:
    aside = []
    for path in folders:
        removed = path.with_name(f".removed-{path.name}")
        if path.is_dir():
            path.rename(removed)
            log.info("the artifact %s is not needed any more", path.name)
        if removed.is_dir():
            aside.append(removed)
    return aside
