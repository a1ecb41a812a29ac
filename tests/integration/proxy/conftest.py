"""A real Envoy with the proxy's files, for each test."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
from redis.asyncio import Redis

from tests.support.proxy.proxy_stack import Stack, running_stack


@pytest.fixture
def stack(tmp_path: Path, redis_server: str, redis: Redis) -> Iterator[Stack]:
    """Envoy runs; a test starts the proxy service itself."""
    with running_stack(tmp_path, redis_server, redis) as stack:
        yield stack


@pytest.fixture
async def http(stack: Stack) -> AsyncIterator[httpx.AsyncClient]:
    """A visitor of `notes` on the public port."""
    async with stack.visitor() as client:
        yield client
