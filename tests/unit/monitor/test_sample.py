"""Counters → samples, and what is remembered of instances."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.monitor.sample import Frame, sample
from services.monitor.sample_book import SampleBook
from services.monitor.store import MemorySampleStore
from shared.models import Environment, InstanceState, InstanceStats
from shared.store import RedisError

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


def test_silence_counts_only_while_the_deployer_answers() -> None:
    book = SampleBook(MemorySampleStore())
    names = ["notes-r9-1", "notes-r9-2"]
    assert book.silence(names, at(0)).value is None  # never answered
    book.take([stats()], at(0))
    assert book.silence(names, at(0)).value == 0
    book.take([stats()], at(8))
    reading = book.silence(names, at(9))
    assert (reading.value, reading.words) == (8, "instance notes-r9-2 gave no samples for 8 s")
    book.missed()
    assert book.silence(names, at(100)).value is None
    book.take([stats()], at(102))
    assert book.silence(names, at(103)).value == 0  # counted anew
    book.take([stats(), stats(id="notes-r9-2")], at(104))
    assert book.silence(names, at(105)).value == 0
    assert book.silence([], at(105)).value == 0


def test_cpu_and_memory_are_those_of_the_releases_worst_instance() -> None:
    book = SampleBook(MemorySampleStore())
    other = {"id": "notes-r8-1", "release": "notes-r8", "working_set": 64 * MIB}
    assert book.memory("notes-r9").value is None
    for second, cpu in ((0, 0.0), (2, 1.0)):
        book.take([stats(cpu_seconds=cpu), stats(id="notes-r9-2", working_set=32 * MIB), stats(**other)], at(second))
    assert (book.memory("notes-r9").value, book.cpu("notes-r9").value) == (0.5, 50.0)
    assert book.memory("notes-r9").words == "instance notes-r9-2 uses 50% of its memory limit"
    book.missed()
    assert book.cpu("notes-r9").value is None


class AwayStore(MemorySampleStore):
    away = True

    async def add(self, batch: Any) -> None:
        if self.away:
            raise RedisError("away")
        await super().add(batch)


@pytest.mark.anyio
async def test_samples_wait_for_a_store_that_is_away() -> None:
    store = AwayStore()
    book = SampleBook(store)
    for second in (0, 2):
        book.take([stats()], at(second))
        with pytest.raises(RedisError):
            await book.flush()
    store.away = False
    await book.flush()
    assert [item.at for item in await store.samples("notes-r9-1", at(0), at(9))] == [at(0), at(2)]
