"""Tests the time of a flag's last evaluation: in memory at once, in the store later, from other copies too."""

from datetime import UTC, datetime, timedelta

import pytest
from redis.asyncio import Redis

from services.flags.change import FlagId
from services.flags.last_used import LastUsed
from services.flags.store import FlagStore
from shared.models import Environment
from shared.store import RedisError

pytestmark = pytest.mark.anyio

START = datetime(2026, 1, 1, tzinfo=UTC)
PRODUCTION, CANARY = Environment


class Clock:
    at = START

    def __call__(self) -> datetime:
        return self.at


class AwayStore(FlagStore):
    away = True

    async def note_evaluated(self, *args: object) -> None:
        if self.away:
            raise RedisError("away")
        await super().note_evaluated(*args)  # type: ignore[arg-type]

    async def evaluated(self, *args: object) -> dict[FlagId, datetime]:
        if self.away:
            raise RedisError("away")
        return await super().evaluated(*args)  # type: ignore[arg-type]


async def test_one_flag_and_all_flags_are_told_apart(redis: Redis) -> None:
    clock = Clock()
    last_used = LastUsed(FlagStore(redis), clock)
    assert last_used.last(PRODUCTION, "k") is None
    last_used.note(PRODUCTION, "k")
    clock.at += timedelta(seconds=5)
    last_used.note(PRODUCTION)
    assert last_used.last(PRODUCTION, "k") == last_used.last(PRODUCTION, "other") == START + timedelta(seconds=5)
    assert last_used.last_alone(PRODUCTION, "k") == START
    assert last_used.last_alone(PRODUCTION, "other") is None
    assert last_used.last(CANARY, "k") is None


async def test_it_is_written_behind_and_read_by_another_copy(redis: Redis) -> None:
    store = FlagStore(redis)
    mine, other = LastUsed(store, Clock()), LastUsed(store, Clock())
    mine.note(CANARY, "k")
    await other.write()
    assert other.last(CANARY, "k") is None
    await mine.write()
    assert other.last(CANARY, "k") is None
    await other.read(["k"])
    assert other.last(CANARY, "k") == mine.last(CANARY, "k") == START


async def test_what_could_not_be_written_is_written_later(redis: Redis) -> None:
    store = AwayStore(redis)
    last_used = LastUsed(store, Clock())
    last_used.note(CANARY, "k")
    with pytest.raises(RedisError):
        await last_used.write()
    assert last_used.last(CANARY, "k") == START
    store.away = False
    await last_used.write()
    assert await store.evaluated([FlagId(CANARY, "k"), FlagId(PRODUCTION, "k")]) == {FlagId(CANARY, "k"): START}


async def test_the_time_of_a_flag_that_was_deleted_is_forgotten(redis: Redis) -> None:
    last_used = LastUsed(FlagStore(redis), Clock())
    last_used.note(CANARY, "k")
    await last_used.write()
    assert last_used.last_alone(CANARY, "k") == START
    await redis.hdel("flags:evaluated:canary", "k")
    await last_used.read(["k"])
    assert last_used.last_alone(CANARY, "k") is None


async def test_without_redis_what_is_known_stays(redis: Redis) -> None:
    store = AwayStore(redis)
    store.away = False
    last_used = LastUsed(store, Clock())
    last_used.note(CANARY, "k")
    await last_used.write()
    store.away = True
    await last_used.read(["k"])
    assert last_used.last(CANARY, "k") == START
