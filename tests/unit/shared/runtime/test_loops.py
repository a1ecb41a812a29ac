"""A loop that fails is seen, goes on, and can be stopped."""

import asyncio
import contextlib

import pytest

from shared.runtime.loops import Loop, running


async def never() -> None:
    await asyncio.sleep(3600)


@pytest.mark.anyio
async def test_a_step_that_raises_is_run_again_and_its_error_is_kept_until_one_ends_well() -> None:
    seen: list[str | None] = []
    done = asyncio.Event()

    async def step() -> None:
        seen.append(loop.error)
        if len(seen) == 1:
            raise RuntimeError("no luck")
        if len(seen) == 3:
            done.set()

    loop = Loop("trial", step, every_s=0.01)
    async with running([loop]):
        await asyncio.wait_for(done.wait(), 5)
    assert seen[:3] == [None, "RuntimeError: no luck", None]


@pytest.mark.anyio
async def test_wake_and_the_loops_event_run_the_next_step_at_once() -> None:
    steps = 0
    stepped = asyncio.Event()

    async def step() -> None:
        nonlocal steps
        steps += 1
        stepped.set()

    due = asyncio.Event()
    loop = Loop("rare", step, every_s=3600, woken=due)
    async with running([loop]):
        for wake in (loop.wake, due.set):
            await asyncio.wait_for(stepped.wait(), 5)
            stepped.clear()
            wake()
        await asyncio.wait_for(stepped.wait(), 5)
    assert steps == 3


@pytest.mark.anyio
@pytest.mark.parametrize(("every_s", "returned_s"), [(3600, 0.0), (0.01, 3600.0)])
async def test_a_step_may_ask_for_the_next_one_sooner_but_not_later(every_s: float, returned_s: float) -> None:
    steps, done = 0, asyncio.Event()

    async def step() -> float:
        nonlocal steps
        steps += 1
        if steps == 3:
            done.set()
        return returned_s

    async with running([Loop("rare", step, every_s=every_s)]):
        await asyncio.wait_for(done.wait(), 5)


@pytest.mark.anyio
async def test_a_loop_that_hangs_or_fails_for_long_is_stale() -> None:
    hanging = Loop("hanging", never, every_s=1, stale_s=0)
    fresh = Loop("fresh", never, every_s=1, stale_s=60)
    await asyncio.sleep(0.01)
    assert "no step of hanging has succeeded" in (hanging.stale() or "")
    assert fresh.stale() is None


@pytest.mark.anyio
@pytest.mark.slow
async def test_a_loop_that_swallows_a_cancellation_is_cancelled_until_it_is_done() -> None:
    swallowed = 0
    started = asyncio.Event()

    async def step() -> None:
        nonlocal swallowed
        while swallowed < 2:
            started.set()
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                swallowed += 1
        await never()

    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(running([Loop("deaf", step, every_s=1)]))
        await asyncio.wait_for(started.wait(), 5)
    assert swallowed == 2
