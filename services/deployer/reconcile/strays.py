"""Ends processes and containers that carry the marks of an instance of this stack (labels, or a variable) but belong to
no recorded instance.
"""

import asyncio
import logging
from collections.abc import Mapping

from services.deployer.drivers.driver import Driver, DriverError, RunningInstance
from services.deployer.releases.instance import Instance
from services.deployer.releases.release import Release
from services.deployer.store import Store
from shared.models import InstanceState, ReleaseState
from shared.runtime.loops import Loop

log = logging.getLogger(__name__)

EVERY_S = 60.0
AGAIN_S = 2.0


class Strays:
    """Ends strays, which carry the marks of an instance but belong to no recorded one, if two checks, 2 s apart, have
    both found them. A stray keeps running if neither its release nor a serving instance of its app is recorded: if the
    store has lost its content, the instances that visitors use must not be ended. An instance that is just being
    started is never a stray, because it is stored before it is started and each check reads what runs before it reads
    the store.
    """

    def __init__(self, driver: Driver, store: Store, grace_s: float) -> None:
        self.loop = Loop("strays", self.step, every_s=EVERY_S, stale_s=3 * EVERY_S)
        self._driver = driver
        self._store = store
        self._grace_s = grace_s
        self._seen: frozenset[RunningInstance] = frozenset()
        self._left_alone: frozenset[RunningInstance] = frozenset()

    async def step(self) -> float | None:
        """Looks once for strays, and ends those that the last check has found too. Returns the seconds until the next
        check, or None if the usual interval is soon enough. Raises RedisError, and DriverError if the driver cannot
        tell what runs.
        """
        running = await self._driver.running()
        instances, releases = await self._store.all_instances()
        by_id = {instance.id: instance for instance in instances}
        strays = frozenset(each for each in running if is_stray(each, by_id.get(each.id), releases))
        serving = {i.app for i in instances if i.state is InstanceState.READY and _is_live(releases, i)}
        ended = {each for each in strays & self._seen if await self._may_end(each, serving)}
        left_alone = (strays & self._seen) - ended
        for each in left_alone - self._left_alone:
            log.warning("%s is not recorded, and no recorded instance serves its app: it runs on", _name(each))
        await asyncio.gather(*(self._end(each) for each in ended))
        fresh = strays - self._seen
        self._seen, self._left_alone = strays - ended, left_alone
        return AGAIN_S if fresh else None

    async def _may_end(self, stray: RunningInstance, serving: set[str]) -> bool:
        release_id = stray.release or stray.id.rpartition("-")[0]
        return release_id.rpartition("-r")[0] in serving or await self._store.release(release_id) is not None

    async def _end(self, stray: RunningInstance) -> None:
        log.warning("%s runs and is not recorded: it is ended and removed", _name(stray))
        try:
            await self._driver.remove(stray, self._grace_s)
        except DriverError as error:
            log.warning("%s is tried again: %s", _name(stray), error)


def is_stray(running: RunningInstance, recorded: Instance | None, releases: Mapping[str, Release]) -> bool:
    """Returns True if `running` is a copy, or does not belong to the instance `recorded`, which has the same id (None:
    there is none). Returns False if that instance is starting: the driver's `start` then replaces whatever runs under
    the id.
    """
    if recorded is None or running.is_copy:
        return True
    if recorded.state is InstanceState.STARTING:
        return False
    return not running.is_of(recorded.release, releases[recorded.release].artifact)


def _is_live(releases: Mapping[str, Release], instance: Instance) -> bool:
    return releases[instance.release].state is ReleaseState.LIVE


def _name(stray: RunningInstance) -> str:
    return f"{stray.id} ({'a copy, ' if stray.is_copy else ''}{stray.handle})"
