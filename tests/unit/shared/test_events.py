"""The stream: told once, read at least once, by each group for itself."""

from typing import Any

import pytest
from redis.asyncio import Redis

from shared.clock import now
from shared.events import EventFollower, append
from shared.models import Event

pytestmark = pytest.mark.anyio


async def test_an_event_that_was_not_confirmed_is_read_again_after_a_restart(redis: Redis) -> None:
    follower = EventFollower(redis, "monitor")
    assert await follower.read(10) == []  # makes the group
    await append(redis, Event(type="build.failure", app="notes", at=now(), id="notes-1", branch="release"))
    await append(redis, Event(type="build.success", app="notes", at=now(), id="notes-2"))
    first, second = await follower.read(10)
    assert (first[1].type, first[1].model_extra) == ("build.failure", {"branch": "release"})
    await follower.confirm(first[0])
    assert await follower.read(10) == [second]  # by the same follower as well

    restarted = EventFollower(redis, "monitor")
    again = await restarted.read(10)
    assert [event.id for _, event in again] == ["notes-2"]
    await restarted.confirm(second[0])
    assert await restarted.read(10) == []
    await append(redis, Event(type="build.queued", app="notes", at=now()))
    assert [event.type for _, event in await restarted.read(10)] == ["build.queued"]


async def test_what_was_taken_by_a_read_whose_answer_was_lost_is_read_again_without_a_restart(redis: Redis) -> None:
    follower = EventFollower(redis, "monitor")
    assert await follower.read(10) == []  # makes the group
    await append(redis, Event(type="build.failure", app="notes", at=now(), id="notes-1"))
    await redis.xreadgroup("monitor", "monitor", {"events": ">"})  # the server has given it, and nobody has heard
    assert [event.id for _, event in await follower.read(10)] == ["notes-1"]


async def test_groups_do_not_take_events_from_each_other(redis: Redis) -> None:
    await append(redis, Event(type="flag.changed", app="", at=now()))
    for group in ("monitor", "mail"):
        follower = EventFollower(redis, group)
        assert [event.type for _, event in await follower.read(10)] == ["flag.changed"]


async def test_an_event_that_was_trimmed_before_it_was_confirmed_does_not_stop_the_others(redis: Redis) -> None:
    follower = EventFollower(redis, "monitor")
    await append(redis, Event(type="build.queued", app="notes", at=now(), id="notes-1"))
    assert [event.id for _, event in await follower.read(10)] == ["notes-1"]
    await redis.xtrim("events", maxlen=0)
    await append(redis, Event(type="build.queued", app="notes", at=now(), id="notes-2"))
    later = [await follower.read(10) for _ in range(3)]
    assert "notes-2" in [event.id for batch in later for _, event in batch]


@pytest.mark.parametrize("entry", [{"event": "{"}, {"event": '{"type": "x"}'}, {"event": "[]"}, {"other": "1"}])
async def test_an_entry_that_is_no_event_is_logged_and_acknowledged(
    redis: Redis, entry: Any, caplog: pytest.LogCaptureFixture
) -> None:
    follower = EventFollower(redis, "monitor")
    await append(redis, Event(type="build.queued", app="notes", at=now(), id="notes-1"))
    entry_id: Any = await redis.xadd("events", entry)
    await append(redis, Event(type="build.queued", app="notes", at=now(), id="notes-2"))
    found = await follower.read(10)
    assert [event.id for _, event in found] == ["notes-1", "notes-2"]
    assert f"the event {entry_id} cannot be used" in caplog.text
    waiting = await redis.xpending_range("events", "monitor", "-", "+", 10)
    assert [each["message_id"] for each in waiting] == [each for each, _ in found]
