"""Finishes the removal of an environment once its instances have ended: deletes volumes, then the route, then the
records.
"""

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime

from services.deployer.drivers.driver import DriverError, Volumes
from services.deployer.plan.lifecycle import is_gone
from services.deployer.reconcile.proxy_client import NotYet, Proxy, ProxyRefused
from services.deployer.releases.environment import EnvironmentId, EnvironmentState
from services.deployer.store import Store
from shared.errors import Unavailable
from shared.models import TRACK_OF, Environment, Event
from shared.registry import Registry
from shared.runtime.loops import Loop

log = logging.getLogger(__name__)

AGAIN_S = 0.2
SECONDS = 60.0


class Removal:
    """Finishes the removals that people have requested. The requests are stored and each action may be repeated, so a
    new process of the deployer continues where a killed one ended. `locks` are the environments' locks, shared with
    their reconcilers. `forget` makes the reconciler drop what it remembers of an environment; `sync_again` makes it
    send the app's host names to the proxy again.
    """

    def __init__(
        self,
        store: Store,
        registry: Registry,
        volumes: Volumes,
        proxy: Proxy,
        locks: Mapping[EnvironmentId, asyncio.Lock],
        forget: Callable[[EnvironmentId], Awaitable[None]],
        sync_again: Callable[[EnvironmentId], None],
        now: Callable[[], datetime],
    ) -> None:
        self.loop = Loop("removal", self.step, every_s=SECONDS, stale_s=3 * SECONDS)
        self.waits_for: dict[EnvironmentId, str] = {}
        """Reason, in words for people, why an environment's removal is not done yet."""
        self._store = store
        self._registry = registry
        self._volumes = volumes
        self._proxy = proxy
        self._locks = locks
        self._forget = forget
        self._sync_again = sync_again
        self._now = now
        self._are_loaded = False

    def begin(self, environment_id: EnvironmentId) -> None:
        """Adds the environment, whose removal must be stored already, to those that `step` works on."""
        self.waits_for.setdefault(environment_id, "waits for its instances to end")
        self.loop.wake()

    async def end_app(self, app: str) -> bool:
        """Deletes what is left of the app once it has no environment: its route, and the counter of its releases.
        Returns False, and deletes nothing, if it still has an environment. Raises Unavailable if the proxy cannot
        remove the route now; the caller may then call again.
        """
        if any(each.app == app for each in await self._store.environments()):
            return False
        try:
            await self._proxy.remove_route(app)
        except (NotYet, ProxyRefused) as error:
            raise Unavailable(f"the route of {app} is still to be removed: {error}; try again") from error
        await self._store.forget_number(app)
        return True

    async def left(self, environment_id: EnvironmentId) -> list[str]:
        """Returns the names of the environment's volumes that its removal does not delete. Raises Unavailable if the
        driver cannot list the volumes.
        """
        removed = (await self._store.load(environment_id)).override.lifecycle.volumes
        if removed is None:
            return []
        try:
            there = await self._volumes.names(environment_id.app, environment_id.environment)
        except DriverError as error:
            raise Unavailable(f"the removal goes on, but the engine does not tell the volumes: {error}") from error
        return [name for name in there if name not in removed]

    async def step(self) -> float:
        """Does what can be done now for each removal that was requested. Returns the number of seconds until the next
        call. Raises RedisError.
        """
        if not self._are_loaded:
            for environment_id in await self._store.environments():
                if (await self._store.load(environment_id)).override.lifecycle.state is EnvironmentState.REMOVING:
                    self.begin(environment_id)
            self._are_loaded = True
        for environment_id in list(self.waits_for):
            try:
                await self._finish(environment_id)
            except (DriverError, NotYet, ProxyRefused) as error:
                if self.waits_for[environment_id] != str(error):
                    log.warning("the removal of %s is tried again: %s", environment_id, error)
                self.waits_for[environment_id] = str(error)
        return AGAIN_S if self.waits_for else math.inf

    async def _finish(self, environment_id: EnvironmentId) -> None:
        app, environment = environment_id.app, environment_id.environment
        async with self._locks[environment_id]:
            world = await self._store.load(environment_id)
            lifecycle = world.override.lifecycle
            if lifecycle.state is EnvironmentState.REMOVING:
                if not is_gone(world) or await self._registry.instances(app, TRACK_OF[environment]):
                    left = ", ".join(each.id for each in world.instances.values())
                    self.waits_for[environment_id] = f"waits for the end of {left}" if left else "waits for the proxy"
                    return
                there = await self._volumes.names(app, environment)
                for name in there if lifecycle.volumes is None else lifecycle.volumes:
                    await self._volumes.remove(app, environment, name)
                await self._registry.remove_track(app, TRACK_OF[environment])
                others = [each for each in await self._store.environments() if each.app == app]
                if others == [environment_id]:
                    await self._proxy.remove_route(app)
                await self._store.remove(environment_id, self._event(environment_id, lifecycle.reason))
                log.info("%s was removed", environment_id)
            await self._forget(environment_id)
            del self.waits_for[environment_id]
        for other in Environment:
            self._sync_again(EnvironmentId(app, other))

    def _event(self, environment_id: EnvironmentId, reason: str) -> Event:
        return Event(
            type="environment.removed",
            app=environment_id.app,
            at=self._now(),
            id=str(environment_id),
            reason=reason,
            notify=[],
            environment=environment_id.environment,
        )
