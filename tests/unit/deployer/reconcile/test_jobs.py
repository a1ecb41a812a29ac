"""Background work: once at a time, not again at once, and really ended at the end."""

import asyncio

import pytest

from services.deployer.reconcile.jobs import Jobs

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
    jobs, work = Jobs(lambda: ends.append(1)), Work()
    for _ in range(3):
        jobs.ensure("key", work)
        await asyncio.sleep(0)
    assert work.begun == 1
    work.go_on.set()
    await asyncio.sleep(0.01)
    assert ends == [1]
    jobs.ensure("key", work)
    await asyncio.sleep(0)
    assert work.begun == 2


async def test_a_pause_holds_until_the_piece_is_cancelled() -> None:
    jobs, work = Jobs(lambda: None), Work()
    work.go_on.set()
    for _ in range(2):
        jobs.ensure("key", work, pause_s=60)
        await asyncio.sleep(0.01)
    assert work.begun == 1
    jobs.cancel("key")
    jobs.ensure("key", work, pause_s=60)
    await asyncio.sleep(0.01)
    assert work.begun == 2


async def test_a_piece_that_fails_is_not_begun_again_at_once(caplog: pytest.LogCaptureFixture) -> None:
    tries: list[int] = []

    async def fail() -> None:
        tries.append(1)
        raise RuntimeError("no")

    jobs = Jobs(lambda: None)
    for _ in range(2):
        jobs.ensure("key", fail)
        await asyncio.sleep(0.01)
    assert tries == [1]
    assert "key failed" in caplog.text


async def test_closing_waits_for_a_piece_that_is_slow_to_end() -> None:
    ended: list[int] = []

    async def slow() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.02)
            ended.append(1)

    jobs = Jobs(lambda: None)
    jobs.ensure("key", slow)
    await asyncio.sleep(0)
    await jobs.close()
    assert ended == [1]
