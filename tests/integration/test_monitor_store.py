"""Samples, their rollups and alerts in Redis, and the memory that they take."""

from datetime import UTC, datetime, timedelta

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.monitor.alerts.alert import Alert, AlertState
from services.monitor.alerts.alert_store import AlertStore
from services.monitor.rules.rule import Metric, Rule
from services.monitor.samples.downsampling import Rollup, Spread, rolled
from services.monitor.samples.sample import Sample, Watched
from services.monitor.samples.sample_store import SampleStore
from services.monitor.samples.traffic_sample import ReleaseSample, TrafficSample
from shared.clock import now
from shared.models import Environment, Event, InstanceState
from shared.store import connect
from tests.support.monitor.monitor_world import appended_events
from tests.support.ports import free_port

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


def answered(seconds: float) -> ReleaseSample:
    sample = TrafficSample(
        **{"at": at(seconds), "requests": 20, "errors": 1, "request_rate": 10.0, "error_rate": 0.5},
        **{"p50_ms": 3.2, "p95_ms": 12.5, "p99_ms": None},
    )
    return ReleaseSample(release="notes-r9", sample=sample)


def row(of: str, minute: int, cpu: float = 12.5) -> Rollup:
    steady = Spread(min=0.5, max=0.5, avg=0.5, last=0.5)
    figures = {"cpu": Spread(min=0, max=cpu, avg=cpu / 3, last=1), "memory": steady}
    return Rollup(of=of, at=at(minute * 60), count=30, figures=figures, sums={"requests": minute})


def alert(name: str, state: AlertState = AlertState.FIRING) -> Alert:
    return Alert(
        id=f"{name}:notes-r9",
        rule=name,
        app="notes",
        environment=Environment.PRODUCTION,
        release="notes-r9",
        state=state,
        reason="why",
        since=AT,
        active_at=AT,
    )


@pytest.fixture
def samples(redis: Redis) -> SampleStore:
    return SampleStore(redis)


@pytest.fixture
def alerts(redis: Redis) -> AlertStore:
    return AlertStore(redis)


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


async def test_samples_of_releases_are_read_back_by_time(samples: SampleStore) -> None:
    batch = [answered(second) for second in (0, 2, 4)]
    await samples.add_traffic(batch)
    await samples.add_traffic([*batch, answered(6)])  # may be repeated
    await samples.add_traffic([])
    assert await samples.traffic("notes-r9", at(2), at(6)) == [answered(second).sample for second in (2, 4, 6)]
    assert await samples.traffic("notes-r8", at(0), at(9)) == []


async def test_rows_are_read_back_by_time_over_the_hours(samples: SampleStore) -> None:
    rows = [row("notes-r9-1", minute) for minute in (58, 59, 60, 61, 200)]
    await samples.add_rollups(rows[:3])
    await samples.add_rollups(rows[2:])  # one of them again
    await samples.add_rollups([row("notes-r9", 59)])
    await samples.add_rollups([])
    assert await samples.rollups("notes-r9-1", at(59 * 60), at(61 * 60)) == rows[1:4]
    assert await samples.rollups("notes-r9-1", at(0), at(86400)) == rows
    assert await samples.rollups("notes-r9", at(0), at(86400)) == [row("notes-r9", 59)]
    assert await samples.rollups("nobody", at(0), at(86400)) == []


async def test_a_row_of_the_same_minute_is_replaced(samples: SampleStore) -> None:
    await samples.add_rollups([row("notes-r9-1", 1, cpu=10), row("notes-r9-1", 2, cpu=10)])
    await samples.add_rollups([row("notes-r9-1", 1, cpu=30)])
    rows = await samples.rollups("notes-r9-1", at(0), at(600))
    assert [(item.at, item.figures["cpu"].max) for item in rows] == [(at(60), 30), (at(120), 10)]


async def test_it_knows_of_whom_it_has_anything(samples: SampleStore) -> None:
    assert not await samples.knows("notes-r9-1", at(0))
    await samples.add([watched("notes-r9-1", 0)])
    await samples.add_traffic([answered(0)])
    await samples.add_rollups([row("notes-r8-1", 0)])
    for name in ("notes-r9-1", "notes-r9", "notes-r8-1"):
        assert await samples.knows(name, at(3 * 3600))
    assert not await samples.knows("notes-r8", at(0))


async def test_redis_keeps_samples_for_an_hour_and_rows_for_a_day(samples: SampleStore, redis: Redis) -> None:
    await samples.add([watched("notes-r9-1", 0)])
    await samples.add_traffic([answered(0)])
    await samples.add_rollups([row("notes-r9-1", 0)])
    for key in ("monitor:samples:notes-r9-1", "monitor:instance:notes-r9-1", "monitor:traffic:notes-r9"):
        assert 3590 < await redis.ttl(key) <= 3600
    [chunk] = await redis.keys("monitor:rollups:*")
    assert chunk == f"monitor:rollups:notes-r9-1:{int(AT.timestamp()) // 3600}"
    assert 86390 < await redis.ttl(chunk) <= 86400


async def test_an_instances_day_takes_less_than_half_a_megabyte(samples: SampleStore, redis: Redis) -> None:
    """Changing figures, as of a busy app; the bound is what 100 instances may take (about 36 MB), for each."""
    taken = []
    for index in range(1800):
        sample = watched("notes-r9-1", index * 2, cpu=round(index * 7.31 % 100, 2)).sample
        taken.append(sample.model_copy(update={"working_set": 50_000_000 + index * 12_345, "memory": index / 1800}))
    template = watched("notes-r9-1", 0)
    await samples.add([template.model_copy(update={"sample": sample}) for sample in taken])
    minutes = rolled("notes-r9-1", taken, 60)
    for hour in range(24):
        moved = [item.model_copy(update={"at": item.at + timedelta(hours=hour)}) for item in minutes]
        await samples.add_rollups(moved)
    sizes = [await redis.memory_usage(key, samples=0) or 0 for key in await redis.keys("monitor:*")]
    assert len(sizes) == 24 + 2
    assert sum(sizes) < 500_000


async def test_alerts_are_saved_replaced_and_removed(alerts: AlertStore) -> None:
    assert await alerts.load() == ([], [])
    await alerts.save({"errors:notes-r9": alert("errors"), "health:notes-r9": alert("health")}, [])
    resolved = alert("errors", AlertState.RESOLVED)
    await alerts.save({"errors:notes-r9": resolved, "health:notes-r9": None, "none:notes-r9": None}, [])
    assert await alerts.load() == ([], [resolved])


async def test_an_alert_of_before_the_clock_was_set_back_does_not_lie_ahead(alerts: AlertStore) -> None:
    """Else a pending one would fire, and a firing one resolve, an hour or a year late."""
    ahead = now() + timedelta(days=365)
    pending = alert("errors", AlertState.PENDING).model_copy(update={"active_at": ahead, "since": ahead})
    await alerts.save({pending.id: pending}, [])
    _, [loaded] = await alerts.load()
    assert loaded.active_at == loaded.since
    assert abs(loaded.active_at - now()) < timedelta(minutes=1)


async def test_rules_are_put_and_deleted(alerts: AlertStore) -> None:
    first = Rule(name="cpu", metric=Metric.CPU, threshold=90)
    await alerts.put_rule(first)
    second = first.model_copy(update={"threshold": 80})
    await alerts.put_rule(second)
    assert await alerts.load() == ([second], [])
    await alerts.delete_rule("cpu")
    await alerts.delete_rule("cpu")
    assert await alerts.load() == ([], [])


async def test_events_come_with_the_alerts(alerts: AlertStore, redis: Redis) -> None:
    event = Event(type="alert.firing", app="notes", at=AT, id="errors:notes-r9", reason="why")
    await alerts.save({"errors:notes-r9": alert("errors")}, [event])
    assert await appended_events(redis) == [event]


async def test_stores_that_are_out_of_reach_raise() -> None:
    client = connect(f"redis://127.0.0.1:{free_port()}/0")
    with pytest.raises(RedisError):
        await SampleStore(client).add([watched("notes-r9-1", 0)])
    with pytest.raises(RedisError):
        await AlertStore(client).load()
    await client.aclose()
