"""A wait that does not count the time in which the waiting process itself was late."""

import asyncio
import threading
import time

import pytest

from shared.runtime.punctual import punctual_wait

pytestmark = pytest.mark.anyio


async def test_what_is_done_is_not_waited_for() -> None:
    done = asyncio.get_running_loop().create_future()
    done.set_result(None)
    assert await punctual_wait(done, 60) == 0


async def test_on_time_the_wait_is_as_long_as_it_says() -> None:
    never = asyncio.get_running_loop().create_future()
    begun = time.monotonic()
    await punctual_wait(never, 0.25)
    assert time.monotonic() - begun >= 0.25
    assert not never.done()
    never.cancel()


async def test_an_answer_that_came_while_the_loop_was_blocked_is_read() -> None:
    """It comes after 0.1 s, and the loop looks at it after 0.6 s, long after the time-out of 0.2 s."""
    loop = asyncio.get_running_loop()
    answer = loop.create_future()
    threading.Timer(0.1, loop.call_soon_threadsafe, [answer.set_result, None]).start()
    loop.call_soon(time.sleep, 0.6)
    lag_s = await punctual_wait(answer, 0.2)
    assert answer.done()
    assert lag_s >= 0.4
