"""Waits that do not count the time in which the waiting process itself was late."""

import asyncio
import threading
import time
from typing import Any

import pytest

from shared.runtime.punctual import PunctualTimeout, punctual_wait

pytestmark = pytest.mark.anyio


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """uvloop runs timers before it reads, asyncio after."""
    return "asyncio", {"use_uvloop": request.param}


async def test_what_is_done_is_not_waited_for() -> None:
    done = asyncio.get_running_loop().create_future()
    done.set_result(None)
    assert await punctual_wait(done, 60) == 0


async def test_on_time_the_wait_is_as_long_as_it_says() -> None:
    never = asyncio.get_running_loop().create_future()
    begun = time.monotonic()
    await punctual_wait(never, 0.25)
    assert time.monotonic() - begun >= 0.24  # uvloop's timers count whole milliseconds
    assert not never.done()
    never.cancel()


@pytest.mark.parametrize("timeout_s", [0.05, 0.2])
async def test_an_answer_that_came_while_the_loop_was_blocked_is_read(timeout_s: float) -> None:
    """It comes after 0.1 s, and the loop looks at it after 0.6 s, long after the time-out, and in several turns."""
    loop = asyncio.get_running_loop()
    answer = loop.create_future()

    def turn(more: int) -> None:
        if more:
            loop.call_soon(turn, more - 1)
        else:
            answer.set_result(None)

    threading.Timer(0.1, loop.call_soon_threadsafe, [turn, 5]).start()
    loop.call_soon(time.sleep, 0.6)
    lag_s = await punctual_wait(answer, timeout_s)
    assert answer.done()
    assert lag_s >= 0.4


async def test_a_block_that_takes_too_long_is_cancelled() -> None:
    limit = PunctualTimeout(0.15)
    with pytest.raises(TimeoutError):
        async with limit:
            await asyncio.sleep(60)
    assert limit.lag_s < 60


async def test_errors_and_a_cancellation_from_outside_pass() -> None:
    async def raises(error: BaseException) -> None:
        async with PunctualTimeout(60):
            await asyncio.sleep(0)
            raise error

    with pytest.raises(ConnectionError, match="reset"):
        await raises(ConnectionError("reset"))

    task = asyncio.create_task(raises(asyncio.CancelledError()))
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_block_that_ends_in_time_is_not_cancelled_later() -> None:
    async with PunctualTimeout(0.05):
        await asyncio.sleep(0)
    await asyncio.sleep(0.2)
