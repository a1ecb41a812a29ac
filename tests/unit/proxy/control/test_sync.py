"""An address that another instance has now leads nobody to the app that had it before."""

from pathlib import Path

import pytest
from redis.asyncio import Redis

from services.proxy.control.sync import RegistrySync
from shared.models import Track
from shared.registry import Registry
from tests.support.proxy.plane import Plane
from tests.support.proxy.routes import endpoint, record, route

pytestmark = pytest.mark.anyio


async def test_an_endpoint_whose_entry_goes_after_its_address_was_given_away_is_removed(
    tmp_path: Path, redis: Redis
) -> None:
    plane = Plane(tmp_path, redis, route(endpoint("new-r1-1"), app="new"), route(endpoint("old-r1-1"), app="old"))
    registry = Registry(redis)
    sync = RegistrySync(plane.control, registry, plane.counts, "localhost")
    await registry.put_instance("new", Track.STABLE, record("new-r1-1"))
    await registry.put_instance("old", Track.STABLE, record("old-r1-1"))
    await sync.step()
    await registry.delete_instance("old", Track.STABLE, "old-r1-1")

    await sync.step()  # nothing of the app `new` changes

    assert plane.control.route("old").endpoints[Track.STABLE] == {}
    assert list(plane.control.route("new").endpoints[Track.STABLE]) == ["new-r1-1"]


async def test_an_endpoint_without_an_entry_stays_while_nobody_has_its_address(tmp_path: Path, redis: Redis) -> None:
    plane = Plane(tmp_path, redis, route(endpoint("old-r1-1"), app="old"))

    await RegistrySync(plane.control, Registry(redis), plane.counts, "localhost").step()

    assert list(plane.control.route("old").endpoints[Track.STABLE]) == ["old-r1-1"]
