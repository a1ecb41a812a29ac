"""One task a key, not again at once, and really ended at the end."""

import asyncio
import contextlib
import time

import pytest

from shared.runtime.keyed_tasks import KeyedTasks
from tests.support.kept_items import kept_items

pytestmark = pytest.mark.anyio


class Work:
    def __init__(self) -> None:
        self.begun = 0
        self.go_on = asyncio.Event()

    async def __call__(self) -> None:
        self.begun += 1
        await self.go_on.wait()


async def test_a_piece_runs_once_at_a_time_and_its_end_is_told() -> None:
    ends: list[int] = []
    tasks, work = KeyedTasks("trial", lambda: ends.append(1)), Work()
    for _ in range(3):
        tasks.start("key", work)
        await asyncio.sleep(0)
    assert work.begun == 1
    work.go_on.set()
    await asyncio.sleep(0.01)
    assert ends == [1]
    tasks.start("key", work)
    await asyncio.sleep(0)
    assert work.begun == 2


async def test_keys_do_not_wait_for_each_other_as_long_as_there_is_room() -> None:
    tasks, works = KeyedTasks("trial", at_a_time=2), [Work() for _ in range(3)]
    for _ in range(2):
        for key, work in enumerate(works):
            tasks.start(key, work)
        await asyncio.sleep(0)
    assert [work.begun for work in works] == [1, 1, 0]
    assert not tasks.has_room_for(2)
    works[0].go_on.set()
    await asyncio.sleep(0.01)
    assert (tasks.runs(0), tasks.runs(1), tasks.has_room_for(2)) == (False, True, True)
    tasks.start(2, works[2])
    await asyncio.sleep(0)
    assert works[2].begun == 1


async def test_when_an_end_is_told_the_key_may_be_begun_again() -> None:
    """So that whoever was woken meanwhile loses nothing."""
    work = Work()

    def again() -> None:
        if work.begun < 3:
            tasks.start("key", work)

    tasks = KeyedTasks("trial", again)
    work.go_on.set()
    tasks.start("key", work)
    await asyncio.sleep(0.01)
    assert work.begun == 3


async def test_a_pause_holds_until_the_piece_is_cancelled() -> None:
    tasks, work = KeyedTasks("trial"), Work()
    work.go_on.set()
    for _ in range(2):
        tasks.start("key", work, pause_s=60)
        await asyncio.sleep(0.01)
    assert work.begun == 1
    tasks.cancel("key")
    tasks.start("key", work, pause_s=60)
    await asyncio.sleep(0.01)
    assert work.begun == 2


async def test_a_piece_that_fails_is_not_begun_again_at_once(caplog: pytest.LogCaptureFixture) -> None:
    tries: list[int] = []

    async def fail() -> None:
        tries.append(1)
        raise RuntimeError("no")

    tasks = KeyedTasks("trial")
    for _ in range(2):
        tasks.start("key", fail)
        await asyncio.sleep(0.01)
    assert tries == [1]
    assert "trial: key failed" in caplog.text


async def test_closing_waits_for_a_piece_that_is_slow_to_end() -> None:
    ended: list[int] = []

    async def slow() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.02)
            ended.append(1)

    tasks = KeyedTasks("trial")
    tasks.start("key", slow)
    await asyncio.sleep(0)
    await tasks.close()
    assert ended == [1]


async def test_closing_ends_a_piece_that_has_swallowed_that_it_was_cut_off() -> None:
    ended: list[int] = []

    async def deaf() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(1)

    tasks = KeyedTasks("trial")
    tasks.start("key", deaf)
    await asyncio.sleep(0)
    tasks.cancel("key")
    await asyncio.sleep(0.01)
    assert ended == []
    await tasks.close()
    assert ended == [1]


async def test_nothing_is_kept_of_keys_that_may_begin_again() -> None:
    tasks = KeyedTasks("trial")
    for key in range(100):
        tasks.start(key, lambda: asyncio.sleep(0))
        await asyncio.sleep(0.001)

    assert kept_items(tasks) < 10


async def test_the_next_end_of_a_pause_is_known() -> None:
    tasks = KeyedTasks("trial")

    async def done() -> None: ...

    assert tasks.next_pause_end() == float("inf")
    begun = time.monotonic()
    for key, pause_s in (("long", 60), ("short", 30), ("none", 0)):
        tasks.start(key, done, pause_s=pause_s)
    await asyncio.sleep(0.01)
    assert begun + 30 <= tasks.next_pause_end() <= time.monotonic() + 30
