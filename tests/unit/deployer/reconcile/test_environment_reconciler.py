"""Plans carried out, on stand-ins for the outside. The deployer dies at every single step in tests/integration."""

import asyncio
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from redis.asyncio import Redis

from services.deployer.drivers.driver import InstanceSpec, InstanceStatus
from services.deployer.plan.apply_changes import Commit
from services.deployer.reconcile.environment_reconciler import (
    BUSY_S,
    RESTS_S,
)
from services.deployer.reconcile.proxy_client import NotYet, ProxyRefused
from services.deployer.releases.environment import Override
from services.deployer.releases.override_encryption import OverrideEncryption
from services.deployer.store import Store
from shared.clock import now
from shared.manifest import MIB
from shared.models import InstanceState, ReleaseState
from shared.proxy_models import InstanceRoute
from shared.runtime.keyed_tasks import RETRY_S
from tests.support.deployer.fakes import (
    a_manifest,
    a_release,
    stored_events,
)
from tests.support.deployer.mortal import (
    NEVER,
    Condition,
    Fuse,
    World,
    has_instances,
    has_states,
    is_done,
)

pytestmark = pytest.mark.anyio


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


async def test_a_release_tells_the_requests_that_the_proxy_saw_cut_off(redis: Redis) -> None:
    world = World(redis)
    world.proxy.cut = {"notes-r1-1": 3}
    for number in (1, 2):
        await world.release(number)
        assert await world.live_until(is_done(number), Fuse(float("inf")))

    async def has_ended(world: World) -> bool:
        return world.driver.stopped == ["notes-r1-1"] and list(await world.entries()) == ["notes-r2-1"]

    assert await world.live_until(has_ended, Fuse(float("inf")))
    first, second = [await world.store.release(f"notes-r{number}") for number in (1, 2)]
    assert first is not None and second is not None
    assert (first.cut_requests, second.cut_requests, second.cut_after_s) == (0, 3, 30)


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

    async def sync(app: str, body: Mapping[str, Any]) -> dict[str, InstanceRoute]:
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

    async def sync(app: str, body: Mapping[str, Any]) -> dict[str, InstanceRoute]:
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
