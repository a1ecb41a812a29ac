"""Counters → samples, and what is remembered of instances."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redis.asyncio import Redis

from services.monitor.samples.sample import Frame, sample
from services.monitor.samples.sample_cache import SampleCache
from services.monitor.samples.sample_store import SampleStore
from shared.models import Environment, InstanceState, InstanceStats
from shared.store import RedisError
from tests.support.kept_items import kept_items

AT = datetime(2026, 1, 1, tzinfo=UTC)
MIB = 2**20


def at(seconds: float) -> datetime:
    return AT + timedelta(seconds=seconds)


def stats(**changes: Any) -> InstanceStats:
    given: dict[str, Any] = {
        "id": "notes-r9-1",
        "app": "notes",
        "environment": Environment.CANARY,
        "release": "notes-r9",
        "state": InstanceState.READY,
        "started_at": AT,
        "memory_limit": 64 * MIB,
        "working_set": 16 * MIB,
        "cpu_seconds": 10.0,
        "restarts": 0,
        "oom_kills": 0,
        "min_memory": 64 * 2**20,
        "max_memory": 512 * 2**20,
    }
    return InstanceStats.model_validate(given | changes)


@pytest.fixture
def samples(redis: Redis) -> SampleCache:
    return SampleCache(SampleStore(redis))


@pytest.mark.parametrize(
    ("before", "after", "seconds", "cpu"),
    [
        ({}, {"cpu_seconds": 11.0}, 2.0, 50.0),
        ({}, {"cpu_seconds": 14.0}, 2.0, 200.0),
        ({}, {}, 2.0, 0.0),
        ({}, {"cpu_seconds": 0.5, "started_at": at(1)}, 2.0, None),
        ({}, {"cpu_seconds": 9.0}, 2.0, None),
        ({}, {"cpu_seconds": 11.0}, 0.0, None),
    ],
)
def test_cpu_is_the_growth_of_the_counter(
    before: dict[str, Any], after: dict[str, Any], seconds: float, cpu: float | None
) -> None:
    assert sample(Frame(at(0), stats(**before)), Frame(at(seconds), stats(**after))).cpu == cpu


def test_the_first_sample_has_memory_and_no_cpu() -> None:
    first = sample(None, Frame(AT, stats()))
    assert (first.cpu, first.memory, first.working_set) == (None, 0.25, 16 * MIB)


def test_silence_counts_only_while_the_deployer_answers(samples: SampleCache) -> None:
    names = ["notes-r9-1", "notes-r9-2"]
    assert samples.silence(names, at(0)).value is None  # never answered
    samples.record([stats()], at(0))
    assert samples.silence(names, at(0)).value == 0
    samples.record([stats()], at(8))
    reading = samples.silence(names, at(9))
    assert (reading.value, reading.description) == (8, "instance notes-r9-2 gave no samples for 8 s")
    samples.missed()
    assert samples.silence(names, at(100)).value is None
    samples.record([stats()], at(102))
    assert samples.silence(names, at(103)).value == 0  # counted anew
    samples.record([stats(), stats(id="notes-r9-2")], at(104))
    assert samples.silence(names, at(105)).value == 0
    assert samples.silence([], at(105)).value == 0


def test_cpu_and_memory_are_those_of_the_releases_worst_instance(samples: SampleCache) -> None:
    other = {"id": "notes-r8-1", "release": "notes-r8", "working_set": 64 * MIB}
    assert samples.memory("notes-r9").value is None
    for second, cpu in ((0, 0.0), (2, 1.0)):
        samples.record(
            [stats(cpu_seconds=cpu), stats(id="notes-r9-2", working_set=32 * MIB), stats(**other)], at(second)
        )
    assert (samples.memory("notes-r9").value, samples.cpu("notes-r9").value) == (0.5, 50.0)
    assert samples.memory("notes-r9").description == "instance notes-r9-2 uses 50% of its memory limit"
    samples.missed()
    assert samples.cpu("notes-r9").value is None


def test_memory_at_the_cap_counts_only_where_no_more_can_be_given(samples: SampleCache) -> None:
    assert samples.memory_at_cap("notes-r9", at(0)).value is None
    samples.record([stats(working_set=63 * MIB)], at(0))
    assert (samples.memory("notes-r9").value, samples.memory_at_cap("notes-r9", at(0)).value) == (0.9844, 0.0)
    samples.record([stats(memory_limit=512 * MIB, working_set=448 * MIB)], at(2))
    assert samples.memory_at_cap("notes-r9", at(2)).value == 0.875


@pytest.mark.parametrize(("limit", "kills", "value"), [(512 * MIB, 1, 1.0), (512 * MIB, 0, 0.03), (64 * MIB, 1, 0.03)])
def test_an_oom_kill_at_the_cap_counts_for_a_minute(limit: int, kills: int, value: float, samples: SampleCache) -> None:
    samples.record([stats(memory_limit=limit)], at(0))
    samples.record([], at(2))
    after = stats(id="notes-r9-2", memory_limit=512 * MIB, oom_kills=kills)
    samples.record([after], at(4))
    reading = samples.memory_at_cap("notes-r9", at(63))
    assert reading.value == pytest.approx(value, abs=0.01)
    assert samples.memory_at_cap("notes-r9", at(64)).value == pytest.approx(0.03, abs=0.01)
    if kills and limit == 512 * MIB:
        assert reading.description == "instance notes-r9-1 was killed at its largest memory limit"


def test_a_kill_after_the_limit_was_lowered_is_none_at_the_cap(samples: SampleCache) -> None:
    for second, limit, kills in ((0, 512, 0), (2, 64, 0), (4, 64, 1)):
        samples.record([stats(memory_limit=limit * MIB, oom_kills=kills)], at(second))
    assert samples.restart_history.killed("notes-r9", at(4)) is None


def test_a_kill_that_was_told_counts_from_when_it_was(samples: SampleCache) -> None:
    restart_history = samples.restart_history
    restart_history.note_kill("notes-r9", "killed", at(10))
    restart_history.note_kill("notes-r9", "an older one", at(5))
    assert [bool(restart_history.killed("notes-r9", at(second))) for second in (10, 69, 70)] == [True, True, False]
    assert restart_history.killed("notes-r8", at(10)) is None


def test_restarts_are_those_of_the_release_while_the_deployer_answers(samples: SampleCache) -> None:
    assert samples.restarts("notes-r9", at(0)).value is None
    other = stats(id="notes-r8-1", release="notes-r8", restarts=2)
    for second, restarts in ((0, 4), (2, 5), (4, 6)):
        samples.record([stats(restarts=restarts), other], at(second))
    assert (samples.restarts("notes-r9", at(4)).value, samples.restarts("notes-r8", at(4)).value) == (2, 0)
    samples.record([other], at(6))  # it waits to be started again
    assert samples.restarts("notes-r9", at(6)).description == "restarted 2 times within 10 min"
    samples.missed()
    assert samples.restarts("notes-r9", at(6)).value is None


def test_a_gap_stays_a_gap(samples: SampleCache) -> None:
    for second in (0, 2, 100, 102):
        samples.record([stats()] if second != 2 else [], at(second))
    assert [item.at for item in samples.recent("notes-r9-1")] == [at(0), at(100), at(102)]
    assert samples.recent("nobody") == []


@pytest.mark.anyio
async def test_instances_that_came_and_went_take_no_memory(samples: SampleCache) -> None:
    kept = []
    for number in range(6):
        for second in (0, 2, 4):
            for release in (
                f"app{number}-r1",
                "notes-r9",
            ):  # the second one stays
                name = f"{release}-{number}"
                memory = {"memory_limit": 512 * MIB, "restarts": second, "oom_kills": second}
                samples.record([stats(id=name, release=release, **memory)], at(4000 * number + second))
                samples.silence([f"{name}-absent"], at(4000 * number + second))
        await samples.flush()
        kept.append(kept_items(samples))
    assert kept == kept[:1] * 6


class AwayStore(SampleStore):
    away = True

    async def add(self, batch: Any) -> None:
        if self.away:
            raise RedisError("away")
        await super().add(batch)


@pytest.mark.anyio
async def test_samples_wait_for_a_store_that_is_away(redis: Redis) -> None:
    store = AwayStore(redis)
    samples = SampleCache(store)
    for second in (0, 2):
        samples.record([stats()], at(second))
        with pytest.raises(RedisError):
            await samples.flush()
    store.away = False
    await samples.flush()
    assert [item.at for item in await store.samples("notes-r9-1", at(0), at(9))] == [at(0), at(2)]


@pytest.mark.anyio
async def test_the_minutes_are_stored_that_are_over(samples: SampleCache, redis: Redis) -> None:
    for second in range(0, 130, 2):
        samples.record([stats(working_set=(second + 1) * MIB // 4)], at(second))
    await samples.flush()
    rows = await SampleStore(redis).rollups("notes-r9-1", at(0), at(999))
    assert [(row.at, row.count, row.figures["working_set"].max) for row in rows] == [
        (at(0), 30, 59 * MIB // 4),
        (at(60), 30, 119 * MIB // 4),
    ]
