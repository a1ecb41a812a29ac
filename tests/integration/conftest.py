"""Fixtures that the integration tests share, also with the unit tests."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis as sync_redis
from redis.asyncio import Redis

from services.deployer.config import Settings
from services.deployer.process_end import stop_instances
from tests.integration.deployer_stack import Deployer, Outside, serving, settings_for
from tests.unit.build.outside import OutsideDeveloper, OutsideForge
from tests.unit.deployer.conftest import engine

__all__ = ["developer", "engine", "forge", "outside"]


@pytest.fixture
async def outside(redis: Redis, tmp_path: Path) -> AsyncIterator[Outside]:
    stand_in = Outside(redis, tmp_path / "artifacts")
    async with serving(stand_in):
        yield stand_in


@pytest.fixture
async def settings(outside: Outside, redis_server: str, tmp_path: Path) -> AsyncIterator[Settings]:
    """Of a deployer on processes."""
    made = settings_for(tmp_path / "home", redis_server, outside)
    yield made
    await asyncio.to_thread(stop_instances, made.home, 0.5)


@pytest.fixture
async def deployer(settings: Settings) -> AsyncIterator[Deployer]:
    async with Deployer(settings) as service:
        yield service


@pytest.fixture
def database(redis_server: str) -> Iterator[Any]:
    with sync_redis.Redis.from_url(redis_server, decode_responses=True) as database:
        database.flushdb()
        yield database


@pytest.fixture
def forge(tmp_path: Path) -> Iterator[OutsideForge]:
    (tmp_path / "forge").mkdir()
    with OutsideForge(tmp_path / "forge").serving() as forge:
        yield forge


@pytest.fixture
def developer(tmp_path: Path, forge: OutsideForge) -> OutsideDeveloper:
    return OutsideDeveloper(tmp_path / "work", forge)
