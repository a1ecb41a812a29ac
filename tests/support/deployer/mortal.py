"""A world in which a deployer carries out its plans on stand-ins for the outside, and may die after any call."""

import asyncio
import copy
from collections.abc import Awaitable, Callable
from typing import Any, cast

from redis.asyncio import Redis

from services.deployer.drivers.driver import Driver
from services.deployer.plan.apply_changes import Commit
from services.deployer.reconcile.environment_reconciler import (
    EnvironmentReconciler,
    ReconcileContext,
)
from services.deployer.reconcile.proxy_client import Proxy
from services.deployer.reconcile.replacement_turns import ReplacementTurns
from services.deployer.reconcile.work_executor import WorkContext
from services.deployer.releases.environment import AppFacts, EnvironmentId
from services.deployer.store import Store
from shared.clock import now
from shared.models import TRACK_OF, Environment, InstanceRecord, InstanceState, ReleaseState
from shared.registry import Registry
from tests.support.deployer.fakes import (
    ENCRYPTION,
    LIMITS,
    FakeDriver,
    FakeProber,
    FakeProxy,
    a_release,
    with_volume,
)

Condition = Callable[["World"], Awaitable[bool]]
NEVER = float("inf")


class Killed(Exception):
    """The deployer is no more."""


class Fuse:
    """Lets `calls` calls through, then none any more."""

    def __init__(self, calls: float) -> None:
        self.left = calls

    def burn(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Killed


class Fused:
    """A collaborator whose calls burn the fuse: the last one reaches it, but its answer gets lost."""

    def __init__(self, inner: object, fuse: Fuse) -> None:
        self._inner = inner
        self._fuse = fuse

    def __getattr__(self, name: str) -> Any:
        async def call(*args: Any, **kwargs: Any) -> Any:
            if self._fuse.left < 0:
                raise Killed
            answer = await getattr(self._inner, name)(*args, **kwargs)
            self._fuse.burn()
            return answer

        return call


class World:
    """Holds what outlives a deployer (store, driver), and runs one deployer after the other on it."""

    def __init__(
        self, redis: Redis, environment: Environment = Environment.PRODUCTION, *, sets_memory: bool = True
    ) -> None:
        self.environment_id = EnvironmentId("notes", environment)
        self.redis = redis
        self.store = Store(redis, ENCRYPTION)
        self.driver = FakeDriver(sets_memory=sets_memory)
        self.registry = Registry(redis)
        self.proxy = FakeProxy(self.registry, self.driver)

    async def saved(self) -> Callable[[], Awaitable["World"]]:
        """Keeps this world in another database; each call of the result makes Redis and a world as they are now."""
        keys: list[Any] = await self.redis.keys()
        async with self.redis.pipeline() as pipe:
            for key in keys:
                pipe.copy(key, key, destination_db="1", replace=True)
            await pipe.execute()

        async def restored() -> World:
            async with self.redis.pipeline() as pipe:
                pipe.flushdb()
                pipe.execute_command("SELECT", 1)
                for key in keys:
                    pipe.copy(key, key, destination_db="0")
                pipe.execute_command("SELECT", 0)
                await pipe.execute()
            return copy.deepcopy(self, {id(self.redis): self.redis})

        return restored

    async def release(self, number: int, **changes: Any) -> None:
        release = a_release(number, ReleaseState.PENDING, environment=self.environment_id.environment, **changes)
        await self.store.commit(self.environment_id, Commit({release.id: release}))

    async def live_until(self, condition: Condition, fuse: Fuse) -> bool:
        """One life of the deployer; whether it saw the condition come true."""
        reconciler = self.reconciler(fuse)
        try:
            async with asyncio.timeout(5):
                while not await condition(self):
                    await reconciler.step()
                    await asyncio.sleep(0.001)
                    if fuse.left < 0:
                        return False
            return True
        except Killed:
            return False
        finally:
            await reconciler.close()

    def reconciler(self, fuse: Fuse) -> EnvironmentReconciler:
        async def nothing(release: str) -> None: ...

        facts = AppFacts("", "", dict.fromkeys(Environment, ""))
        work_context = WorkContext(
            store=cast(Store, Fused(self.store, fuse)),
            driver=cast(Driver, Fused(self.driver, fuse)),
            proxy=cast(Proxy, Fused(self.proxy, fuse)),
            facts=facts,
            grace_s=1,
            domain="localhost",
            auto_rollback=nothing,
            poll_s=0.001,
        )
        context = ReconcileContext(
            cast(Registry, Fused(self.registry, fuse)), FakeProber(), ReplacementTurns(), LIMITS, now
        )
        return EnvironmentReconciler(
            self.environment_id, context, work_context, asyncio.Lock(), lambda environment_id: None
        )

    async def states(self) -> dict[str, ReleaseState]:
        """States of all releases by id, newest first."""
        return {release.id: release.state for release in await self.store.releases(self.environment_id)}

    async def records(self) -> dict[str, InstanceRecord]:
        """Instances in the registry by id."""
        found = await self.registry.instances("notes", TRACK_OF[self.environment_id.environment])
        return {record.id: record for record in found}

    async def entries(self) -> dict[str, InstanceState]:
        """States of the instances in the registry by id."""
        return {each: record.state for each, record in (await self.records()).items()}


def is_done(number: int) -> Condition:
    """Live, and nothing of others left."""

    async def condition(world: World) -> bool:
        release = await world.store.release(f"notes-r{number}")
        live = release is not None and release.state is ReleaseState.LIVE
        return live and all(each.startswith(f"notes-r{number}-") for each in await world.entries())

    return condition


def has_states(states: dict[str, ReleaseState]) -> Condition:
    async def condition(world: World) -> bool:
        return await world.states() == states

    return condition


def has_instances(*ids: str) -> Condition:
    async def condition(world: World) -> bool:
        return list(await world.entries()) == [*ids]

    return condition


async def down_s(world: World, release_id: str) -> float | None:
    release = await world.store.release(release_id)
    return None if release is None else release.down_s


async def with_one_live(redis: Redis, environment: Environment = Environment.PRODUCTION) -> World:
    world = World(redis, environment)
    world.proxy.stop_first = True
    await world.release(1, manifest=with_volume())
    assert await world.live_until(is_done(1), Fuse(NEVER))
    return world
