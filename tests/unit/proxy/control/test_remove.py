"""A removed route is nowhere afterwards, also if the proxy dies at any point of the removal."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from services.proxy.control.disk_state import AbortedReleases, Snapshot
from services.proxy.control.sync import RegistrySync
from services.proxy.envoy.files import EnvoyFiles, envoy_folder
from services.proxy.envoy.limits import FileLimit
from services.proxy.routes.edge import EdgeSettings
from services.proxy.routes.route_store import RouteStore
from shared.errors import Conflict, NotFound
from shared.models import InstanceState, Track
from shared.registry import Registry
from tests.support.proxy.plane import Plane
from tests.support.proxy.routes import endpoint, record, route

pytestmark = pytest.mark.anyio

STEPS: list[tuple[type, str]] = [
    (Snapshot, "remove"),
    (EnvoyFiles, "remove"),
    (AbortedReleases, "forget"),
    (RouteStore, "remove"),
]


class Died(Exception):
    """The proxy is no more."""


async def a_plane(home: Path, redis: Redis, *others: str) -> Plane:
    """`notes` has production, an aborted canary and the requests for unknown hosts."""
    notes = route(endpoint("notes-r1-1"), canary=(endpoint("notes-r2-1", port=20001),), rollout="notes-r2")
    apps = [route(endpoint(f"{app}-r1-1", port=20002), app=app) for app in others]
    plane = Plane(home, redis, notes.model_copy(update={"edge": EdgeSettings(catch_all=True)}), *apps)
    plane.control.abort("notes", "errors")
    await plane.control.save()
    return plane


async def traces(plane: Plane, redis: Redis) -> list[str]:
    """Returns the keys and files that still have the app's name, in their name or content."""
    keys = [str(key) for key in await redis.keys("*notes*")]
    paths = [path for path in envoy_folder(plane.settings).rglob("*") if path.is_file()]
    return keys + [path.name for path in paths if "notes" in path.name or "notes" in path.read_text()]


def remover(plane: Plane, redis: Redis) -> RegistrySync:
    return RegistrySync(plane.control, Registry(redis), plane.counts, "localhost", FileLimit(20_000))


@pytest.mark.parametrize("others", [(), ("other",)], ids=["alone", "beside another"])
async def test_nothing_is_left_of_a_removed_route(tmp_path: Path, redis: Redis, others: tuple[str, ...]) -> None:
    plane = await a_plane(tmp_path, redis, *others)
    assert await traces(plane, redis)
    for _ in range(2):
        await remover(plane, redis).remove("notes")
        assert await traces(plane, redis) == []
    with pytest.raises(NotFound):
        plane.control.route("notes")
    assert list(plane.control.routes) == [*others] and plane.control.routes.owner_of("*") is None
    assert plane.control.aborted == set(), "a new notes-r2 is another release"
    plane.start()
    assert list(plane.control.routes) == [*others]


@pytest.mark.parametrize("others", [(), ("other",)], ids=["alone", "beside another"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(("part", "name"), STEPS, ids=[part.__name__ for part, _ in STEPS])
async def test_the_proxy_may_die_at_each_step(
    tmp_path: Path,
    redis: Redis,
    part: type,
    name: str,
    after: bool,
    others: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plane = await a_plane(tmp_path, redis, *others)
    inner: Callable[..., Any] = getattr(part, name)

    def dies(self: object, *args: object) -> None:
        if after and part is not RouteStore:
            inner(self, *args)
        raise Died

    with monkeypatch.context() as patch:
        patch.setattr(part, name, dies)
        with pytest.raises(Died):
            await remover(plane, redis).remove("notes")
    plane.start()
    await remover(plane, redis).remove("notes")
    assert await traces(plane, redis) == []
    plane.start()
    assert list(plane.control.routes) == [*others]


async def test_a_new_app_of_the_name_begins_anew(tmp_path: Path, redis: Redis) -> None:
    plane = await a_plane(tmp_path, redis)
    await remover(plane, redis).remove("notes")
    fresh = route(endpoint("notes-r2-1", port=20009))
    plane.control.put(fresh)
    await plane.control.save()
    assert plane.control.route("notes").rollout is None
    folder = envoy_folder(plane.settings)
    assert "20009" in (folder / "eds/notes.stable.json").read_text()
    assert "notes/stable" in (folder / "cds.json").read_text()


async def test_a_route_stays_while_the_registry_has_instances(tmp_path: Path, redis: Redis) -> None:
    plane = await a_plane(tmp_path, redis)
    await Registry(redis).put_instance("notes", Track.STABLE, record("notes-r1-1", InstanceState.DRAINING))
    with pytest.raises(Conflict, match="notes has instances: notes-r1-1"):
        await remover(plane, redis).remove("notes")
    assert plane.control.route("notes")
