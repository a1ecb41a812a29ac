"""Workers run builds in turns of apps, and only in the home that has the lease."""

import asyncio
from pathlib import Path

import pytest
from redis.asyncio import Redis

from services.build.builds.build import ended
from services.build.builds.build_store import BuildStore
from services.build.builds.lease_store import KEY, LEASE_S, Lease
from services.build.logs.build_log import BuildLogs
from services.build.queue.workers import Workers
from services.build.system.stop import Stop
from shared.models import BuildState
from tests.support.build.builds import AT, build

pytestmark = pytest.mark.anyio


class Run:
    """Runs until it is told to stop, and leaves the build as it is."""

    def __init__(self) -> None:
        self.running: list[str] = []
        self.stops: dict[str, Stop] = {}

    async def __call__(self, build_id: str, stop: Stop) -> None:
        self.running.append(build_id)
        self.stops[build_id] = stop
        await stop.wait()
        self.running.remove(build_id)


@pytest.fixture
def run() -> Run:
    return Run()


def workers_of(store: BuildStore, run: Run, folder: Path, lease: Lease, concurrency: int = 2) -> Workers:
    return Workers(store, BuildLogs(folder), run, concurrency, lambda: AT, lease.hold, wake=lambda: None)


async def settled(workers: Workers) -> None:
    await workers.step()
    for _ in range(5):
        await asyncio.sleep(0)


async def test_builds_are_run_by_one_home_and_taken_up_at_once_by_its_next_service(
    store: BuildStore, run: Run, redis: Redis, tmp_path: Path
) -> None:
    await store.add(build(1), is_head=True)
    await settled(workers_of(store, run, tmp_path, Lease(redis, "home-a")))  # and is killed
    assert run.running == ["notes-1"]
    elsewhere, lease = Run(), Lease(redis, "home-b")
    await settled(workers_of(store, elsewhere, tmp_path, lease))
    assert elsewhere.running == []
    assert "another home (stack home-a)" in (await lease.refusal() or "")
    following, lease = Run(), Lease(redis, "home-a")
    await settled(workers_of(store, following, tmp_path, lease))
    assert following.running == ["notes-1"]
    assert await lease.refusal() is None


async def test_a_lease_lasts_as_long_as_it_is_renewed(redis: Redis) -> None:
    lease, another = Lease(redis, "home-a"), Lease(redis, "home-b")
    assert await lease.hold() and not await another.hold()
    assert 0 < await redis.pttl(KEY) <= LEASE_S * 1000
    await redis.pexpire(KEY, 50)
    assert await lease.hold()
    assert await redis.pttl(KEY) > 1000
    await redis.delete(KEY)  # it was not renewed
    assert await another.hold() and not await lease.hold()


async def test_what_runs_is_left_when_the_builds_become_another_ones(
    store: BuildStore, run: Run, redis: Redis, tmp_path: Path
) -> None:
    await store.add(build(1), is_head=True)
    workers = workers_of(store, run, tmp_path, Lease(redis, "home-a"))
    await settled(workers)
    await redis.set(KEY, "home-b")
    await settled(workers)
    assert run.running == []
    assert not (await store.build("notes-1")).ended


async def test_the_turn_goes_to_the_app_that_was_served_longest_ago(
    store: BuildStore, run: Run, redis: Redis, tmp_path: Path
) -> None:
    for number in range(1, 4):
        await store.add(build(number, app="many", branch=f"topic-{number}"), is_head=True)
    await store.add(build(1, app="one"), is_head=True)
    workers = workers_of(store, run, tmp_path, Lease(redis, "home-a"), concurrency=1)
    started = []
    for _ in range(4):
        await settled(workers)
        [build_id] = run.running
        started.append(build_id)
        await store.update(build_id, lambda stored: ended(stored, BuildState.CANCELLED, "", AT))
        run.stops[build_id].set()
        for _ in range(5):
            await asyncio.sleep(0)
    assert started == ["many-1", "one-1", "many-2", "many-3"]
