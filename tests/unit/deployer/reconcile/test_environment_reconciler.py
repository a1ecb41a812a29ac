"""Plans carried out, on stand-ins for the outside; and the same with the deployer dying at every single step."""

import asyncio
import copy
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any, cast

import pytest
from redis.asyncio import Redis

from services.deployer.drivers.driver import Driver, InstanceSpec, InstanceStatus
from services.deployer.plan.apply_changes import Commit
from services.deployer.reconcile.environment_reconciler import (
    BUSY_S,
    RESTS_S,
    EnvironmentReconciler,
    ReconcileContext,
)
from services.deployer.reconcile.proxy_client import NotYet, Proxy, ProxyRefused
from services.deployer.reconcile.replacement_turns import ReplacementTurns
from services.deployer.reconcile.work_executor import WorkContext
from services.deployer.releases.environment import AppFacts, EnvironmentId, Override
from services.deployer.releases.override_encryption import OverrideEncryption
from services.deployer.store import Store
from shared.clock import now
from shared.manifest import MIB
from shared.models import TRACK_OF, Environment, InstanceRecord, InstanceState, ReleaseState
from shared.proxy_models import RouteState
from shared.registry import Registry
from shared.runtime.keyed_tasks import RETRY_S
from tests.support.deployer.fakes import (
    ENCRYPTION,
    LIMITS,
    FakeDriver,
    FakeProber,
    FakeProxy,
    a_manifest,
    a_release,
    stored_events,
)

pytestmark = pytest.mark.anyio
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


async def test_releases_follow_each_other(redis: Redis) -> None:
    world = World(redis)
    for number in (1, 2):
        await world.release(number)
        assert await world.live_until(is_done(number), Fuse(float("inf")))
    assert await world.states() == {"notes-r2": ReleaseState.LIVE, "notes-r1": ReleaseState.RETIRED}
    assert world.driver.started == ["notes-r1-1", "notes-r2-1"]
    assert world.driver.stopped == ["notes-r1-1"]
    assert world.proxy.violations == []
    assert await world.entries() == {"notes-r2-1": InstanceState.READY}
    types = [event.type for event in await stored_events(redis) if event.id == "notes-r2"]
    assert types == ["release.starting", "release.live"]


@pytest.mark.parametrize("environment", list(Environment))
@pytest.mark.slow
async def test_the_deployer_may_die_after_any_call_it_makes(redis: Redis, environment: Environment) -> None:
    """Nothing is stopped before it is out of the route, nothing started twice, and it ends as if nothing had been."""
    world = World(redis, environment)
    await world.release(1)
    assert await world.live_until(is_done(1), Fuse(float("inf")))
    await world.release(2)
    restored, calls = await world.saved(), 0
    while True:
        world = await restored()
        unharmed = await world.live_until(is_done(2), Fuse(calls))
        assert unharmed or await world.live_until(is_done(2), Fuse(float("inf"))), f"not taken up after {calls} calls"
        assert world.driver.started == ["notes-r1-1", "notes-r2-1"], f"killed after {calls} calls"
        assert world.driver.stopped == ["notes-r1-1"], f"killed after {calls} calls"
        assert world.proxy.violations == [], f"killed after {calls} calls"
        assert await world.entries() == {"notes-r2-1": InstanceState.READY}
        if unharmed:
            break
        calls += 1
    assert calls > 20
    assert world.proxy.rollouts == (["notes-r1", "notes-r2"] if environment is Environment.CANARY else [])


async def test_an_environment_at_rest_has_a_step_seldom_and_reads_only_its_own_statuses(redis: Redis) -> None:
    world = World(redis)
    await world.release(1)
    assert await world.live_until(is_done(1), Fuse(float("inf")))
    await world.driver.start(InstanceSpec("other-r1-1", a_release(1).artifact, "run", {}, 64 * MIB, 8000))
    asked: list[list[str]] = []
    inner = world.driver.statuses

    async def statuses(instance_ids: Iterable[str] | None = None) -> dict[str, InstanceStatus]:
        asked.append(list(instance_ids or []))
        return await inner(asked[-1])

    world.driver.statuses = statuses  # type: ignore[method-assign]
    reconciler = world.reconciler(Fuse(float("inf")))
    waits: list[float] = []
    try:
        async with asyncio.timeout(5):
            while not waits or waits[-1] <= BUSY_S:
                reconciler.due_at = float("inf")
                await reconciler.step()
                waits.append(reconciler.due_at - time.monotonic())
                await asyncio.sleep(0.01)
    finally:
        await reconciler.close()
    assert waits[0] <= BUSY_S, "the proxy's answer is to come"
    assert RESTS_S - 1 < waits[-1] < 1.5 * RESTS_S
    assert asked == [["notes-r1-1"]] * len(waits)
    reconciler.due_at = 0
    await reconciler.step()
    assert reconciler.due_at == 0, "it was woken meanwhile"


async def test_work_that_pauses_makes_its_environment_due_when_it_can_go_on(redis: Redis) -> None:
    world = World(redis)
    await world.release(1)
    assert await world.live_until(is_done(1), Fuse(float("inf")))

    async def sync(app: str, body: Mapping[str, Any]) -> dict[str, RouteState]:
        raise NotYet("it does not answer")

    world.proxy.sync = sync  # type: ignore[method-assign]
    reconciler = world.reconciler(Fuse(float("inf")))
    try:
        for _ in range(3):
            reconciler.due_at = NEVER
            await reconciler.step()
            await asyncio.sleep(0.05)
    finally:
        await reconciler.close()
    assert reconciler.due_at - time.monotonic() < RETRY_S < BUSY_S


async def test_a_crash_is_followed_by_a_new_instance(redis: Redis) -> None:
    world = World(redis)
    await world.release(1)
    assert await world.live_until(is_done(1), Fuse(float("inf")))
    await world.store.save_override(world.environment_id, Override(replicas=2))
    assert await world.live_until(has_instances("notes-r1-1", "notes-r1-2"), Fuse(float("inf")))
    world.driver.end("notes-r1-1", 3)
    assert await world.live_until(has_instances("notes-r1-2", "notes-r1-3"), Fuse(float("inf")))
    assert "notes-r1-1" not in await world.entries()


@pytest.mark.parametrize("has_room", [True, False])
async def test_an_instance_whose_route_is_refused_is_ended(redis: Redis, has_room: bool) -> None:
    """The first release of an app, so that nothing else decides about the route. Without room, the proxy refuses even
    the app's own host.
    """
    world = World(redis)
    inner = world.proxy.sync

    async def sync(app: str, body: Mapping[str, Any]) -> dict[str, RouteState]:
        if "taken.example" in body["hosts"] or not has_room:
            raise ProxyRefused("host taken.example belongs to app other")
        return await inner(app, body)

    world.proxy.sync = sync  # type: ignore[method-assign]
    await world.release(1, manifest=a_manifest().model_copy(update={"hosts": ["taken.example"]}))

    async def is_over(world: World) -> bool:
        stored = await world.store.load(world.environment_id)
        return bool(stored.instances) and all(each.ended_at for each in stored.instances.values())

    assert await world.live_until(is_over, Fuse(float("inf")))
    assert await world.live_until(has_instances(), Fuse(float("inf")))
    release = await world.store.release("notes-r1")
    assert release is not None and release.state is ReleaseState.FAILED
    assert "host taken.example belongs to app other" in release.reason
    assert world.driver.stopped == ["notes-r1-1"] and await world.driver.running() == []


async def test_the_reason_of_a_failure_says_which_capabilities_were_kept(redis: Redis) -> None:
    world = World(redis)
    inner = world.driver.statuses

    async def statuses(instance_ids: Iterable[str] | None = None) -> dict[str, InstanceStatus]:
        return {each: replace(found, capabilities=("CHOWN",)) for each, found in (await inner(instance_ids)).items()}

    async def logs(instance_id: str, lines: int) -> list[str]:
        return ["ping: socket: Operation not permitted"]

    world.driver.statuses, world.driver.logs = statuses, logs  # type: ignore[method-assign]
    run = a_manifest().run.model_copy(update={"command": "exit 3"})
    await world.release(1, manifest=a_manifest().model_copy(update={"run": run}))
    assert await world.live_until(has_states({"notes-r1": ReleaseState.FAILED}), Fuse(float("inf")))
    release = await world.store.release("notes-r1")
    assert release is not None
    assert "it ended with exit code 3; it ran `exit 3`; the kernel refused it something" in release.reason
    assert "keeps only CHOWN" in release.reason


async def test_what_runs_under_its_id_and_is_another_release_is_not_taken_for_it(redis: Redis) -> None:
    """As after the loss of Redis, when numbers begin anew, or if a person planted it."""
    world = World(redis)
    other = a_release(1).artifact.model_copy(update={"digest": "sha256:other"})
    await world.driver.start(InstanceSpec("notes-r1-1", other, "run", {}, 64 * MIB, 8000))
    await world.release(1)
    assert await world.live_until(is_done(1), Fuse(float("inf")))
    [running] = await world.driver.running()
    assert (running.id, running.artifact) == ("notes-r1-1", a_release(1).artifact.digest)
    # And while it is live.
    await world.driver.start(InstanceSpec("notes-r1-1", other, "run", {}, 64 * MIB, 8000))
    assert await world.live_until(has_instances("notes-r1-2"), Fuse(float("inf")))


async def started(world: World, override: Override) -> None:
    """One release is live; then something else is wanted."""
    await world.release(1)
    assert await world.live_until(is_done(1), Fuse(float("inf")))
    await world.store.save_override(world.environment_id, override)


def has_limit(instance_id: str, memory: int) -> Condition:
    async def condition(world: World) -> bool:
        return {each: record.memory_limit for each, record in (await world.records()).items()} == {instance_id: memory}

    return condition


async def test_other_memory_is_given_to_what_runs(redis: Redis) -> None:
    world = World(redis)
    await started(world, Override(memory=128 * MIB))
    before = (await world.records())["notes-r1-1"].updated_at
    assert await world.live_until(has_limit("notes-r1-1", 128 * MIB), Fuse(float("inf")))
    assert (world.driver.started, world.driver.limits["notes-r1-1"]) == (["notes-r1-1"], 128 * MIB)
    assert (await world.records())["notes-r1-1"].updated_at > before


async def test_other_memory_may_be_cut_off_after_any_call(redis: Redis) -> None:
    calls = 0
    while True:
        await redis.flushdb()
        world = World(redis)
        await started(world, Override(memory=128 * MIB))
        changed = has_limit("notes-r1-1", 128 * MIB)
        unharmed = await world.live_until(changed, Fuse(calls))
        assert unharmed or await world.live_until(changed, Fuse(float("inf"))), f"not taken up after {calls} calls"
        assert world.driver.started == ["notes-r1-1"], f"killed after {calls} calls"
        if unharmed:
            break
        calls += 1
    assert calls > 5


async def test_an_engine_that_cannot_change_limits_gets_new_instances_start_first(redis: Redis) -> None:
    world = World(redis, sets_memory=False)
    await started(world, Override(memory=128 * MIB))
    assert await world.live_until(has_limit("notes-r1-2", 128 * MIB), Fuse(float("inf")))
    assert (world.driver.stopped, world.proxy.violations) == (["notes-r1-1"], [])


async def test_a_refused_limit_leaves_the_old_one_and_says_why(redis: Redis) -> None:
    world = World(redis)
    world.driver.working_set = 120 * MIB
    await started(world, Override(memory=128 * MIB))

    async def is_refused(world: World) -> bool:
        [instance] = (await world.store.load(world.environment_id)).instances.values()
        return instance.memory_refusal == "notes-r1-1 uses more"

    assert await world.live_until(is_refused, Fuse(float("inf")))
    assert await has_limit("notes-r1-1", 64 * MIB)(world)


async def test_a_release_that_is_killed_at_its_limit_gets_more_until_it_lives(redis: Redis) -> None:
    world = World(redis)
    world.driver.needs = 200 * MIB
    await world.release(1)
    assert await world.live_until(is_done(1), Fuse(float("inf")))
    assert world.driver.started == ["notes-r1-1", "notes-r1-2", "notes-r1-3"]
    assert await has_limit("notes-r1-3", 256 * MIB)(world)
    stored = await world.store.load(world.environment_id)
    assert stored.override == Override(memory=256 * MIB)
    assert (stored.instances["notes-r1-3"].oom_kills, stored.instances["notes-r1-3"].restarts) == (2, 2)


async def test_a_release_that_needs_more_than_its_maximum_fails_and_says_so(redis: Redis) -> None:
    world = World(redis)
    world.driver.needs = 600 * MIB
    await world.release(1)
    assert await world.live_until(has_states({"notes-r1": ReleaseState.FAILED}), Fuse(float("inf")))
    release = await world.store.release("notes-r1")
    assert release is not None and len(world.driver.started) == 4
    assert release.reason == (
        "notes-r1-4: killed: out of memory at its maximum of 512 MiB; raise resources.max_memory or mend the app"
    )


async def test_a_lost_key_leaves_alone_what_runs_and_refuses_what_is_new_with_the_remedy(
    redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(redis)
    await world.store.save_override(world.environment_id, Override(variables={"GREETING": "hello"}))
    await world.release(1)
    assert await world.live_until(is_done(1), Fuse(float("inf")))
    world.store = Store(redis, OverrideEncryption(["another key"]))
    await world.release(2)
    states = {"notes-r2": ReleaseState.FAILED, "notes-r1": ReleaseState.LIVE}
    assert await world.live_until(has_states(states), Fuse(float("inf")))
    failed = await world.store.release("notes-r2")
    assert failed is not None and "GREETING cannot be decrypted; restore <home>/key" in failed.reason
    assert (world.driver.started, world.driver.stopped) == (["notes-r1-1"], [])
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == [
        f"notes/production: {(await world.store.load(world.environment_id)).override.problem}"
    ]
    await world.store.save_override(world.environment_id, Override(variables={"GREETING": "again"}))
    assert await world.live_until(has_instances("notes-r1-2"), Fuse(float("inf")))
    assert world.proxy.violations == []


@pytest.mark.parametrize("step", [timedelta(hours=1), timedelta(days=365)])
async def test_after_a_clock_was_set_back_a_crashed_instance_is_replaced_at_once(redis: Redis, step: timedelta) -> None:
    """Its crash lies ahead, and so would the end of its back-off."""
    world = World(redis)
    await world.release(1)
    assert await world.live_until(is_done(1), Fuse(NEVER))
    stored = await world.store.load(world.environment_id)
    crashed = stored.instances["notes-r1-1"].model_copy(
        update={"state": InstanceState.FAILED, "changed_at": now() + step, "created_at": now() + step}
    )
    await world.store.commit(world.environment_id, Commit(instances={crashed.id: crashed}))
    assert await world.live_until(has_instances("notes-r1-2"), Fuse(NEVER))


async def test_after_a_clock_was_set_back_a_starting_release_still_has_a_deadline(redis: Redis) -> None:
    world = World(redis)
    release = a_release(1, ReleaseState.STARTING)
    ahead = release.model_copy(update={"clock_from": now() + timedelta(days=365)})
    await world.store.commit(world.environment_id, Commit({release.id: ahead}))
    reconciler = world.reconciler(Fuse(NEVER))
    try:
        await reconciler.step()
    finally:
        await reconciler.close()
    corrected = await world.store.release(release.id)
    assert corrected is not None and corrected.clock_from is not None
    assert abs(now() - corrected.clock_from) < timedelta(minutes=1)
