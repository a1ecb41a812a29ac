"""After a jump of the clock, what is deleted because of its age is kept for a day."""

from datetime import UTC, datetime, timedelta

import pytest
from redis.asyncio import Redis

from shared.runtime.clock_store import ClockTrust

pytestmark = pytest.mark.anyio

AT = datetime(2026, 11, 29, 12, tzinfo=UTC)
DAY = timedelta(days=1)


async def test_a_clock_that_runs_on_is_trusted(redis: Redis) -> None:
    for hours in (0, 1, 23, 46):
        assert await ClockTrust(redis, "build:clock").is_trusted(AT + timedelta(hours=hours))


@pytest.mark.parametrize("step", [365 * DAY, -365 * DAY, timedelta(hours=-1), 2 * DAY])
async def test_after_a_jump_it_is_doubted_for_a_day_also_by_the_next_process(redis: Redis, step: timedelta) -> None:
    assert await ClockTrust(redis, "build:clock").is_trusted(AT)
    later = AT + step
    trust = ClockTrust(redis, "build:clock")
    looks = [await trust.is_trusted(later + timedelta(hours=hours)) for hours in (0, 1, 12, 23.5, 24, 30)]
    assert looks == [False, False, False, False, True, True]
    assert await ClockTrust(redis, "monitor:clock").is_trusted(later), "each user has looks of its own"


async def test_a_clock_that_was_set_right_again_within_the_day_has_deleted_nothing(redis: Redis) -> None:
    trust = ClockTrust(redis, "build:clock")
    assert await trust.is_trusted(AT)
    assert not await trust.is_trusted(AT + 365 * DAY)
    assert not await trust.is_trusted(AT + timedelta(hours=2))
    assert not await trust.is_trusted(AT + timedelta(hours=25))
    assert await trust.is_trusted(AT + timedelta(hours=27))
