"""The store of every unit test of the deployer that needs one."""

import pytest
from redis.asyncio import Redis

from services.deployer.store import Store
from tests.support.deployer.fakes import ENCRYPTION


@pytest.fixture
def store(redis: Redis) -> Store:
    return Store(redis, ENCRYPTION)
