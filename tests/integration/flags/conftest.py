"""The flags service on a real Redis, for each test."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis

from services.flags.main import build_app
from tests.support.flags_stack import running, settings_for


@pytest.fixture
def app(tmp_path: Path, redis_server: str, redis: Redis) -> Any:
    return build_app(settings_for(tmp_path, redis_server))


@pytest.fixture
async def http(app: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the running service, with the platform's token."""
    async with running(app) as client:
        yield client
