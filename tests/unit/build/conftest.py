"""Fixtures that the unit tests of the build service share."""

import pytest
from redis.asyncio import Redis

from services.build.builds.build_store import BuildStore


@pytest.fixture
def store(redis: Redis) -> BuildStore:
    return BuildStore(redis)
