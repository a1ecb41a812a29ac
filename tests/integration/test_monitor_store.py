"""The contracts of SampleStore and AlertStore, run against both implementations of each."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.monitor.alert import Alert, AlertState
from services.monitor.alert_store import AlertStore, MemoryAlertStore, RedisAlertStore
from services.monitor.redis_sample_store import RedisSampleStore
from services.monitor.rule import Metric, Rule
from services.monitor.sample import Sample, Watched
from services.monitor.store import MemorySampleStore, SampleStore
from shared.events import STREAM
from shared.models import Environment, Event, InstanceState
from shared.store import connect
from tests.conftest import free_port

pytestmark = pytest.mark.anyio

AT = datetime(2026, 1, 1, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return AT + timedelta(seconds=seconds)


def watched(instance: str, seconds: float, cpu: float | None = 12.5) -> Watched:
    sample = Sample(at=at(seconds), cpu=cpu, working_set=100, memory_limit=400, memory=0.25)
    return Watched(
        id=instance,
        app="notes",
        environment=Environment.CANARY,
        release="notes-r9",
        component="web",
        state=InstanceState.READY,
        started_at=AT if instance.endswith("1") else at(60),
        sample=sample,
    )


def alert(name: str, state: AlertState = AlertState.FIRING) -> Alert:
    return Alert(
        id=f"{name}:notes-r9",
        rule=name,
        app="notes",
        release="notes-r9",
        state=state,
        reason="why",
        since=AT,
        active_at=AT,
    )


@pytest.fixture(params=["redis", "memory"])
async def samples(request: pytest.FixtureRequest, redis: Redis) -> SampleStore:
    return RedisSampleStore(redis) if request.param == "redis" else MemorySampleStore()


@pytest.fixture(params=["redis", "memory"])
async def alerts(request: pytest.FixtureRequest, redis: Redis) -> AlertStore:
    return RedisAlertStore(redis) if request.param == "redis" else MemoryAlertStore()


async def test_samples_are_read_back_by_time_oldest_first(samples: SampleStore) -> None:
    batch = [watched("notes-r9-1", second, cpu) for second, cpu in ((0, None), (2, 20.0), (4, 40.0))]
    await samples.add(batch)
    await samples.add([watched("notes-r9-2", 2)])
    assert await samples.samples("notes-r9-1", at(0), at(10)) == [item.sample for item in batch]
    assert [item.cpu for item in await samples.samples("notes-r9-1", at(2), at(2))] == [20.0]
    assert await samples.samples("notes-r9-1", at(5), at(10)) == []
    assert await samples.samples("nobody", at(0), at(10)) == []


async def test_an_added_batch_may_be_added_again(samples: SampleStore) -> None:
    batch = [watched("notes-r9-1", 0), watched("notes-r9-1", 2)]
    await samples.add(batch)
    await samples.add([*batch, watched("notes-r9-1", 4)])
    assert [item.at for item in await samples.samples("notes-r9-1", at(0), at(10))] == [at(0), at(2), at(4)]


async def test_instances_are_listed_with_their_last_sample_last_started_first(samples: SampleStore) -> None:
    assert await samples.instances() == []
    await samples.add([])
    await samples.add([watched("notes-r9-1", 0), watched("notes-r9-2", 0), watched("notes-r9-1", 2)])
    assert await samples.instances() == [watched("notes-r9-2", 0), watched("notes-r9-1", 2)]


async def test_redis_keeps_samples_for_an_hour(redis: Redis) -> None:
    await RedisSampleStore(redis).add([watched("notes-r9-1", 0)])
    for key in ("monitor:samples:notes-r9-1", "monitor:instance:notes-r9-1"):
        assert 3590 < await redis.ttl(key) <= 3600


async def test_alerts_are_saved_replaced_and_removed(alerts: AlertStore) -> None:
    assert await alerts.load() == ([], [])
    await alerts.save({"errors:notes-r9": alert("errors"), "health:notes-r9": alert("health")}, [])
    resolved = alert("errors", AlertState.RESOLVED)
    await alerts.save({"errors:notes-r9": resolved, "health:notes-r9": None, "none:notes-r9": None}, [])
    assert await alerts.load() == ([], [resolved])


async def test_rules_are_put_and_deleted(alerts: AlertStore) -> None:
    first = Rule(name="cpu", metric=Metric.CPU, threshold=90)
    await alerts.put_rule(first)
    second = first.model_copy(update={"threshold": 80})
    await alerts.put_rule(second)
    assert await alerts.load() == ([second], [])
    await alerts.delete_rule("cpu")
    await alerts.delete_rule("cpu")
    assert await alerts.load() == ([], [])


async def test_events_come_with_the_alerts(redis: Redis) -> None:
    told = Event(type="alert.firing", app="notes", at=AT, id="errors:notes-r9", reason="why")
    await RedisAlertStore(redis).save({"errors:notes-r9": alert("errors")}, [told])
    entries: Any = await redis.xrange(STREAM)
    [(_, fields)] = entries
    assert Event.model_validate_json(fields["event"]) == told


async def test_stores_that_are_out_of_reach_raise() -> None:
    client = connect(f"redis://127.0.0.1:{free_port()}/0")
    with pytest.raises(RedisError):
        await RedisSampleStore(client).add([watched("notes-r9-1", 0)])
    with pytest.raises(RedisError):
        await RedisAlertStore(client).load()
    await client.aclose()
