"""The registry in Redis: who is there, and the instances of each app."""

import asyncio
from datetime import UTC, datetime

import pytest
from redis.asyncio import Redis

from shared.models import InstanceRecord, InstanceState, ServiceRecord, Track
from shared.registry import Registry

pytestmark = pytest.mark.anyio

AT = datetime(2026, 1, 1, tzinfo=UTC)


def service(name: str, id: str = "a") -> ServiceRecord:
    return ServiceRecord(name=name, id=id, url="http://127.0.0.1:1", version="1", started_at=AT)


def instance(id: str) -> InstanceRecord:
    return InstanceRecord(
        id=id,
        release=id.rpartition("-")[0],
        commit="0" * 40,
        address="127.0.0.1:1",
        state=InstanceState.READY,
        memory_limit=1,
        updated_at=AT,
    )


async def test_services_that_announced_themselves_are_found_until_they_leave(redis: Redis) -> None:
    registry = Registry(redis)
    for each in (service("proxy"), service("build"), service("build", "b")):
        await registry.announce(each)
    await registry.withdraw(service("build", "b"))

    assert await registry.services() == [service("build"), service("proxy")]


async def test_a_service_whose_key_has_expired_is_gone(redis: Redis) -> None:
    await Registry(redis).announce(service("proxy"))
    await redis.delete("registry:service:proxy:a")

    assert await Registry(redis).services() == []


async def test_all_instances_are_by_app_and_track(redis: Redis) -> None:
    registry = Registry(redis)
    await registry.put_instance("notes", Track.STABLE, instance("notes-r1-2"))
    await registry.put_instance("notes", Track.STABLE, instance("notes-r1-1"))
    await registry.put_instance("notes", Track.CANARY, instance("notes-r2-1"))
    await registry.put_instance("other", Track.STABLE, instance("other-r1-1"))
    await registry.delete_instance("other", Track.STABLE, "other-r1-1")

    stable = [instance("notes-r1-1"), instance("notes-r1-2")]
    assert await registry.all_instances() == {
        "notes": {Track.STABLE: stable, Track.CANARY: [instance("notes-r2-1")]},
    }


async def test_what_an_earlier_version_wrote_without_an_index_is_found(redis: Redis) -> None:
    await redis.hset("registry:instance:notes:stable", "notes-r1-1", instance("notes-r1-1").model_dump_json())

    assert await Registry(redis).all_instances() == {"notes": {Track.STABLE: [instance("notes-r1-1")]}}


async def test_readers_scan_no_keys(redis: Redis) -> None:
    registry = Registry(redis)
    await registry.announce(service("proxy"))
    await registry.all_instances()
    before = await redis.info("commandstats")

    await registry.all_instances()
    await registry.services()

    after = await redis.info("commandstats")
    assert after.get("cmdstat_scan") == before.get("cmdstat_scan")


async def test_a_reader_learns_whose_instances_changed_since_it_looked(redis: Redis) -> None:
    registry = Registry(redis)
    await registry.put_instance("notes", Track.STABLE, instance("notes-r1-1"))
    everything, position = await registry.changed_apps("")
    assert everything is None
    assert await registry.changed_apps(position) == (frozenset(), position)

    await registry.delete_instance("notes", Track.STABLE, "notes-r1-1")
    await registry.put_instance("other", Track.CANARY, instance("other-r1-1"))
    changed, later = await registry.changed_apps(position)

    assert changed == frozenset({"notes", "other"})
    assert await registry.changed_apps(later) == (frozenset(), later)


@pytest.mark.parametrize("loss", ["all data", "the oldest changes"])
async def test_a_reader_whose_position_is_gone_has_to_read_all_and_then_follows_again(redis: Redis, loss: str) -> None:
    registry = Registry(redis)
    _, position = await registry.changed_apps("")
    await registry.put_instance("notes", Track.STABLE, instance("notes-r1-1"))
    if loss == "all data":
        await redis.flushdb()
    else:
        await redis.xtrim("registry:changes", maxlen=1, approximate=False)

    changed, position = await registry.changed_apps(position)
    assert changed is None
    await registry.put_instance("other", Track.STABLE, instance("other-r1-1"))

    assert (await registry.changed_apps(position))[0] == frozenset({"other"})


async def test_the_changes_that_are_kept_are_bounded(redis: Redis) -> None:
    await redis.xtrim("registry:changes", maxlen=0, approximate=False)
    registry = Registry(redis)
    for _ in range(3):
        async with asyncio.TaskGroup() as writers:
            for _ in range(500):
                writers.create_task(registry.delete_instance("notes", Track.STABLE, "notes-r1-1"))

    assert await redis.xlen("registry:changes") < 1200


async def test_the_instances_of_an_app_are_by_track(redis: Redis) -> None:
    registry = Registry(redis)
    await registry.put_instance("notes", Track.CANARY, instance("notes-r2-1"))

    assert await registry.instances_of("notes") == {Track.STABLE: [], Track.CANARY: [instance("notes-r2-1")]}
