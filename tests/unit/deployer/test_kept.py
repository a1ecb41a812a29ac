"""A kept value is read again after a change, also one during the reading."""

import asyncio

import pytest

from services.deployer.kept import Kept

pytestmark = pytest.mark.anyio


async def test_a_value_is_read_once_until_it_is_dropped() -> None:
    values = iter(range(10))

    async def read() -> int:
        return next(values)

    kept = Kept(read)
    assert [await kept.get() for _ in range(3)] == [0, 0, 0]
    kept.drop()
    assert [await kept.get() for _ in range(2)] == [1, 1]


async def test_a_change_during_the_reading_is_not_missed() -> None:
    stored, go_on = ["old"], asyncio.Event()

    async def read() -> str:
        found = stored[0]
        await go_on.wait()
        return found

    kept = Kept(read)
    reading = asyncio.create_task(kept.get())
    await asyncio.sleep(0)
    stored[0] = "new"
    kept.drop()
    go_on.set()
    assert await reading == "old"
    assert await kept.get() == "new"


async def test_after_an_error_the_value_is_read_again() -> None:
    answers: list[Exception | str] = [OSError("no"), "well"]

    async def read() -> str:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    kept = Kept(read)
    with pytest.raises(OSError, match="no"):
        await kept.get()
    assert await kept.get() == "well"
