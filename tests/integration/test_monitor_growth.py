"""The monitor's work for idle apps grows in proportion to their number, and the number of its calls does not grow."""

from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from bench.scale.monitor import CannedPlatform, MonitorLoops
from services.monitor.config import Settings
from tests.support.work import work_of

pytestmark = pytest.mark.anyio
Make = Callable[[int], MonitorLoops]


@pytest.fixture
async def loops_of(redis: Redis, tmp_path: Path) -> AsyncIterator[Make]:
    """Makes the monitor's parts, beside a deployer and a proxy with so many apps."""
    clients = []

    def make(apps: int) -> MonitorLoops:
        clients.append(httpx.AsyncClient(transport=httpx.MockTransport(CannedPlatform(apps).answer)))
        return MonitorLoops(redis, clients[-1], Settings(home=tmp_path, token=SecretStr("token")))

    yield make
    for client in clients:
        await client.aclose()


async def round_of(loops: MonitorLoops) -> None:
    """Two seconds of the clock: each loop at least once."""
    loops.time += timedelta(seconds=2)
    for _, _, step in loops.loops:
        await step()


async def test_the_work_of_a_round_grows_in_proportion(loops_of: Make, redis: Redis) -> None:
    work = []
    for apps in (40, 80, 160):
        await redis.flushdb()
        loops = loops_of(apps)
        for _ in range(3):
            await round_of(loops)
        work.append(await work_of(round_of(loops)))
    few, some, many = work
    assert many - some < 2.2 * (some - few), "twice as many more apps, twice as much more work"


async def test_the_answers_of_redis_in_a_round_do_not_grow(loops_of: Make, redis: Redis) -> None:
    """To read them takes longer than anything else, if each sample has one of its own."""

    async def answered(apps: int) -> int:
        """Bytes that Redis sent."""
        await redis.flushdb()
        loops = loops_of(apps)
        for _ in range(3):
            await round_of(loops)
        before = await redis.info("stats")
        await round_of(loops)
        after = await redis.info("stats")
        return int(after["total_net_output_bytes"] - before["total_net_output_bytes"])

    assert await answered(55) - await answered(5) < 50
