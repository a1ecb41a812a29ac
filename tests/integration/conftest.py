"""Fixtures that the integration tests share, also with the unit tests."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis as sync_redis
from redis.asyncio import Redis

from services.deployer.config import Settings
from services.deployer.drivers.process.end import stop_instances
from tests.support.build.executors import Engine
from tests.support.build.outside import OutsideDeveloper, OutsideForge
from tests.support.build.platform import Platform, platform_with, processes
from tests.support.build.service import BuildService
from tests.support.deployer.deployer_stack import Deployer, Outside, serving, settings_for
from tests.support.deployer.engine import engine, image, other_image, stack

__all__ = ["developer", "engine", "forge", "image", "other_image", "outside", "stack"]


@pytest.fixture
async def outside(redis: Redis, tmp_path: Path) -> AsyncIterator[Outside]:
    stand_in = Outside(redis, tmp_path / "artifacts")
    async with serving(stand_in):
        yield stand_in


@pytest.fixture
async def settings(outside: Outside, redis_server: str, tmp_path: Path) -> AsyncIterator[Settings]:
    """Yields the settings of a deployer whose instances are processes; ends the instances afterwards."""
    made = settings_for(tmp_path / "home", redis_server, outside)
    yield made
    await asyncio.to_thread(stop_instances, made.home, 0.5)


@pytest.fixture
async def deployer(settings: Settings) -> AsyncIterator[Deployer]:
    async with Deployer(settings) as service:
        yield service


@pytest.fixture(scope="session")
def database(redis_server: str) -> Iterator[Any]:
    """To look into; whoever is to find it empty empties it."""
    with sync_redis.Redis.from_url(redis_server, decode_responses=True) as database:
        yield database


@pytest.fixture
def build_settings() -> dict[str, str]:
    """Returns settings for the fixture `service`; a module may override this fixture."""
    return {}


@pytest.fixture
def service(tmp_path: Path, redis_server: str, build_settings: dict[str, str]) -> Iterator[BuildService]:
    """A build service, beside a stub of the deployer."""
    with BuildService(tmp_path / "home", redis_server, **build_settings).running() as service:
        yield service


@pytest.fixture
async def platform(tmp_path: Path, redis: Redis) -> Platform:
    """Builds without a service, whose steps are processes."""
    return await processes(tmp_path, redis)


@pytest.fixture(params=["process", pytest.param("docker", marks=pytest.mark.docker)])
async def everywhere(request: pytest.FixtureRequest, tmp_path: Path, redis: Redis) -> Platform:
    """Builds without a service, by each executor; the module says which `engine`."""
    if request.param == "process":
        return await processes(tmp_path, redis)
    engine: Engine = request.getfixturevalue("engine")
    return await platform_with(engine.executor(), tmp_path, redis)


@pytest.fixture
def forge(tmp_path: Path) -> Iterator[OutsideForge]:
    (tmp_path / "forge").mkdir()
    with OutsideForge(tmp_path / "forge").serving() as forge:
        yield forge


@pytest.fixture
def developer(tmp_path: Path, forge: OutsideForge) -> OutsideDeveloper:
    return OutsideDeveloper(tmp_path / "work", forge)
