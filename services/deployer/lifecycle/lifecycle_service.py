"""Accepts requests to stop, start, restart and remove an environment. It stores each request, on which the
environment's reconciler then acts.
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from datetime import datetime

from services.deployer.plan.observe import World
from services.deployer.releases.environment import EnvironmentId, EnvironmentState, Lifecycle
from services.deployer.store import Store
from shared.errors import Conflict, NotFound
from shared.models import ReleaseState


class LifecycleService:
    """Stores requests of people to stop, start, restart or remove environments. Each request may be repeated. `locks`
    are the environments' locks, shared with their reconcilers. `wake` makes the reconciler of an environment act at
    once; `on_removal` is called after a removal was stored. Each method with an `environment_id` raises NotFound for an
    environment that has no records.
    """

    def __init__(
        self,
        store: Store,
        locks: Mapping[EnvironmentId, asyncio.Lock],
        wake: Callable[[EnvironmentId], None],
        now: Callable[[], datetime],
        on_removal: Callable[[EnvironmentId], None],
    ) -> None:
        self._store = store
        self._locks = locks
        self._wake = wake
        self._now = now
        self._on_removal = on_removal

    async def stop(self, environment_id: EnvironmentId) -> None:
        """Requests that the environment's instances end, and that its pending and starting releases are retired. The
        live release stays recorded, without instances. Raises Conflict if the environment is being removed.
        """

        def stopped(world: World) -> Lifecycle:
            lifecycle = _that_stays(environment_id, world)
            return lifecycle.moved(EnvironmentState.STOPPED, "the environment was stopped by order", self._now())

        await self._change(environment_id, stopped)

    async def start(self, environment_id: EnvironmentId) -> None:
        """Requests that the live release runs again. Raises Conflict if there is no live release, or if the environment
        is being removed.
        """

        def started(world: World) -> Lifecycle:
            lifecycle = _that_stays(environment_id, world)
            if not lifecycle.runs and world.only(ReleaseState.LIVE) is None:
                raise Conflict(f"{environment_id} has no live release to start; release a build, or roll back")
            return lifecycle.moved(EnvironmentState.RUNNING, "the environment was started by order", self._now())

        await self._change(environment_id, started)

    async def restart(self, environment_id: EnvironmentId) -> None:
        """Requests that each instance of the live release is replaced. Raises Conflict if the environment is stopped or
        being removed, or has no live release.
        """

        def restarted(world: World) -> Lifecycle:
            lifecycle = _that_stays(environment_id, world)
            if not lifecycle.runs:
                raise Conflict(f"{environment_id} is stopped; start it with POST …/start")
            if world.only(ReleaseState.LIVE) is None:
                raise Conflict(f"{environment_id} has no live release to restart; release a build")
            return lifecycle.model_copy(update={"restarted_at": self._now()})

        await self._change(environment_id, restarted)

    async def remove(self, environment_id: EnvironmentId, volumes: list[str] | None) -> None:
        """Requests the removal of the environment with its releases, instances, route, variables and secrets, and with
        the volumes that `volumes` names (None: all of them). A repeated request adds to the named volumes.
        """

        def removing(world: World) -> Lifecycle:
            before = world.override.lifecycle
            named = None if volumes is None or before.volumes is None else sorted({*before.volumes, *volumes})
            lifecycle = before.moved(EnvironmentState.REMOVING, "the environment is removed", self._now())
            return lifecycle.model_copy(update={"volumes": named})

        await self._change(environment_id, removing)
        self._on_removal(environment_id)

    async def remove_app(self, app: str, volumes: list[str] | None) -> None:
        """Requests the removal of each environment of the app with everything that belongs to it, but of its volumes
        only those that `volumes` names (None: all of them).
        """
        for environment_id in await self._store.environments():
            if environment_id.app == app:
                with contextlib.suppress(NotFound):  # the environment was removed in the meantime
                    await self.remove(environment_id, volumes)

    async def _change(self, environment_id: EnvironmentId, change: Callable[[World], Lifecycle]) -> None:
        async with self._locks[environment_id]:
            if environment_id not in await self._store.environments():
                raise NotFound(f"nothing was ever released to {environment_id}, or it was removed")
            world = await self._store.load(environment_id)
            if (lifecycle := change(world)) != world.override.lifecycle:
                override = world.override.model_copy(update={"lifecycle": lifecycle})
                await self._store.save_override(environment_id, override)
        self._wake(environment_id)


def _that_stays(environment_id: EnvironmentId, world: World) -> Lifecycle:
    lifecycle = world.override.lifecycle
    if lifecycle.state is EnvironmentState.REMOVING:
        raise Conflict(f"{environment_id} is being removed; when it is gone (404), a release makes it anew")
    return lifecycle
