"""Apps are handled several at a time, and none keeps the others waiting."""

import asyncio

import pytest

from services.proxy.control.envoy_loops import AT_A_TIME, for_each

pytestmark = pytest.mark.anyio

APPS = [f"app{number}" for number in range(20)]


async def test_an_app_that_waits_keeps_no_other_waiting() -> None:
    others = asyncio.Event()
    ended = []

    async def action(app: str) -> None:
        if app == "app0":
            await asyncio.wait_for(others.wait(), 10)
        ended.append(app)
        if len(ended) == len(APPS) - 1:
            others.set()

    await for_each(APPS, action)

    assert ended == [*APPS[1:], "app0"]


async def test_no_more_than_eight_at_a_time() -> None:
    running = most = 0

    async def action(app: str) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1

    await for_each(APPS, action)

    assert most == AT_A_TIME == 8


async def test_an_app_that_fails_keeps_no_other_from_its_turn_and_the_first_failure_is_raised() -> None:
    ended = []

    async def action(app: str) -> None:
        if app in ("app3", "app4"):
            raise ValueError(app)
        ended.append(app)

    with pytest.raises(ValueError, match="app3"):
        await for_each(APPS, action)

    assert ended == [app for app in APPS if app not in ("app3", "app4")]


async def test_a_loop_that_is_cut_off_leaves_nothing_running() -> None:
    begun, cut_off = asyncio.Event(), []

    async def action(app: str) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cut_off.append(app)
            raise

    task = asyncio.create_task(for_each(APPS, action))
    await begun.wait()
    task.cancel()
    await asyncio.wait([task])

    assert sorted(cut_off) == APPS[:AT_A_TIME]
