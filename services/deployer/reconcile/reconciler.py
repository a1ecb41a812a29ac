"""The background steps: every environment kept as it is wanted, logs and artifacts kept within bounds."""

import asyncio
import logging
import shutil
import time
from collections.abc import Callable, Mapping, MutableMapping
from functools import partial
from pathlib import Path

from services.deployer.drivers.driver import Driver, InstanceStatus
from services.deployer.reconcile.environment_reconciler import EnvironmentReconciler
from services.deployer.releases.environment import EnvironmentId
from services.deployer.releases.release import needed_artifacts, unneeded_folders
from services.deployer.store import Store
from shared.models import Artifact, Environment
from shared.runtime.keyed_tasks import KeyedTasks
from shared.runtime.loops import Loop
from shared.store import RedisError

log = logging.getLogger(__name__)

LOOK_S = 0.05
HANGS_S = 15.0


class Reconciler:
    """Runs the environments' rounds, each when it is due: one that is slow, hangs or fails holds up no other."""

    def __init__(
        self, store: Store, driver: Driver, make_runner: Callable[[EnvironmentId], EnvironmentReconciler]
    ) -> None:
        self.loop = Loop("reconcile", self.step, every_s=LOOK_S)
        self.problems: dict[EnvironmentId, str] = {}
        self._store = store
        self._driver = driver
        self._make_runner = make_runner
        self._runners: dict[EnvironmentId, EnvironmentReconciler] = {}
        self._rounds = KeyedTasks("reconcile", self.loop.wake)
        self._begun_at: dict[EnvironmentId, float] = {}
        self._places_known = False

    def wake(self, place: EnvironmentId) -> None:
        """The environment is due at once."""
        self._runner(place).due_at = 0.0
        self.loop.wake()

    def wake_all(self) -> None:
        """Every environment is due at once."""
        for runner in self._runners.values():
            runner.due_at = 0.0
        self.loop.wake()

    async def step(self) -> None:
        """Begins the rounds that are due, and waits for none. An environment that is woken during its round has another
        one after it.
        """
        if not self._places_known:
            for place in await self._store.places():
                self._runner(place)
            self._places_known = True
        idle = [runner for place, runner in self._runners.items() if not self._rounds.runs(place)]
        due = [runner for runner in idle if runner.due_at <= time.monotonic()]
        if not due:
            return
        statuses = await self._driver.statuses()
        for runner in due:
            runner.due_at = float("inf")  # whoever wakes it from now on is heard
            self._rounds.start(runner.place, partial(self._round, runner, statuses))

    async def check(self) -> str | None:
        """For /ready: which environments cannot be reconciled, and why."""
        ages = {place: time.monotonic() - begun_at for place, begun_at in self._begun_at.items()}
        hanging = {place: f"its round still runs after {age:.0f} s" for place, age in ages.items() if age > HANGS_S}
        return "; ".join(f"{place}: {why}" for place, why in (self.problems | hanging).items()) or None

    async def close(self) -> None:
        """Ends the rounds and the background work; instances run on."""
        await self._rounds.close()
        await asyncio.gather(*(runner.close() for runner in self._runners.values()))

    async def _round(self, runner: EnvironmentReconciler, statuses: Mapping[str, InstanceStatus]) -> None:
        place = runner.place
        self._begun_at[place] = time.monotonic()
        try:
            await runner.step(statuses)
            self.problems.pop(place, None)
        except Exception as error:
            runner.due_at = time.monotonic() + 1.0
            why = f"{type(error).__name__}: {error}"
            if self.problems.get(place) != why:
                log.error("%s cannot be reconciled: %s", place, why, exc_info=not isinstance(error, RedisError))
            self.problems[place] = why
        finally:
            del self._begun_at[place]

    def _runner(self, place: EnvironmentId) -> EnvironmentReconciler:
        if place not in self._runners:
            self._runners[place] = self._make_runner(place)
        return self._runners[place]


class Housekeeping:
    """Removes the artifacts that nothing needs any more, and keeps logs short. Once in its life it stores variables and
    secrets anew: those that an older version left in plain text, or an older key encrypted, are encrypted then.
    """

    def __init__(
        self, store: Store, driver: Driver, locks: MutableMapping[EnvironmentId, asyncio.Lock], releases_kept: int
    ) -> None:
        self._store = store
        self._driver = driver
        self._locks = locks
        self._releases_kept = releases_kept
        self._sealed = False

    async def step(self) -> None:
        if not self._sealed:
            for place in await self._store.places():
                await self._seal(place)
            self._sealed = True
        needed: list[Artifact] = []
        for app in sorted({place.app for place in await self._store.places()}):
            of_app, folders = await self._set_aside(app)
            needed += of_app
            for path in folders:
                await asyncio.to_thread(shutil.rmtree, path, ignore_errors=True)
        await self._driver.tidy(needed)

    async def _seal(self, place: EnvironmentId) -> None:
        async with self._locks[place]:
            override = (await self._store.load(place)).override
            if override.variables or override.secrets:
                await self._store.save_override(place, override)

    async def _set_aside(self, app: str) -> tuple[list[Artifact], list[Path]]:
        """What the app needs; and folders of its own releases that it does not, renamed while no release of it can be
        ordered. (An image that goes while its release is being ordered is that release's failure: it says so.)
        """
        places = [EnvironmentId(app, environment) for environment in Environment]
        async with self._locks[places[0]], self._locks[places[1]]:
            by_environment = [await self._store.releases(place) for place in places]
            in_use = {i.release for place in places for i in (await self._store.load(place)).instances.values()}
            needed = [a for r in by_environment for a in needed_artifacts(r, self._releases_kept, in_use)]
            refs = unneeded_folders(by_environment, needed)
            return needed, await asyncio.to_thread(_set_aside, sorted(refs))


def _set_aside(refs: list[str]) -> list[Path]:
    aside = []
    for path in map(Path, refs):
        removed = path.with_name(f".removed-{path.name}")
        if path.is_dir():
            path.rename(removed)
            log.info("the artifact %s is not needed any more", path.name)
        if removed.is_dir():
            aside.append(removed)
    return aside
