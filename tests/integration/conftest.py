"""Fixtures that the integration tests share, also with the unit tests."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from tests.integration.deployer_stack import Outside, serving
from tests.unit.build.outside import OutsideDeveloper, OutsideForge
from tests.unit.deployer.conftest import engine

__all__ = ["developer", "engine", "forge", "outside"]


@pytest.fixture
async def outside(redis: Redis, tmp_path: Path) -> AsyncIterator[Outside]:
    stand_in = Outside(redis, tmp_path / "artifacts")
    async with serving(stand_in):
        yield stand_in


@pytest.fixture
def forge(tmp_path: Path) -> Iterator[OutsideForge]:
    (tmp_path / "forge").mkdir()
    with OutsideForge(tmp_path / "forge").serving() as forge:
        yield forge


@pytest.fixture
def developer(tmp_path: Path, forge: OutsideForge) -> OutsideDeveloper:
    return OutsideDeveloper(tmp_path / "work", forge)
