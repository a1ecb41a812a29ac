"""A change of one app renders and writes that app alone, and what could not be written is written later."""

import asyncio
import json
from collections.abc import Iterable
from pathlib import Path

import pytest
from redis.asyncio import Redis

from services.proxy.control.control_plane import ControlPlane
from services.proxy.control.disk_state import AbortedReleases, Snapshot
from services.proxy.envoy.configuration import Configuration
from services.proxy.envoy.files import EnvoyFiles, envoy_folder
from services.proxy.routes.edge import EdgeSettings
from services.proxy.routes.route import EndpointState, Route
from services.proxy.routes.route_store import RouteStore
from shared.errors import Timeout
from shared.models import Track
from shared.security.vault import Vault
from tests.support.proxy.plane import Plane
from tests.support.proxy.routes import NOW, endpoint, route

pytestmark = pytest.mark.anyio

APPS = [f"app{number}" for number in range(30)]
RDS = {"rds-public.json", "rds-production.json", "rds-canary.json"}


@pytest.fixture
def plane(tmp_path: Path, redis: Redis) -> Plane:
    """Each app has production and a canary whose rollout progresses."""
    canaries = {app: (endpoint(f"{app}-r2-1", port=20001),) for app in APPS}
    return Plane(
        tmp_path,
        redis,
        *(route(endpoint(f"{app}-r1-1"), canary=canaries[app], rollout=f"{app}-r2", app=app) for app in APPS),
    )


def inodes(plane: Plane) -> dict[str, int]:
    """File → inode, in Envoy's folder: a file that was written again is another one."""
    folder = envoy_folder(plane.settings)
    return {str(path.relative_to(folder)): path.stat().st_ino for path in folder.rglob("*.json")}


def written(plane: Plane, before: dict[str, int]) -> set[str]:
    return {name for name, inode in inodes(plane).items() if before.get(name) != inode}


def with_more(plane: Plane, app: str) -> Route:
    """The app's route with one more instance of production."""
    before = plane.control.route(app)
    more = endpoint(f"{app}-r1-2", port=20009)
    return before.model_copy(
        update={"endpoints": {**before.endpoints, Track.STABLE: {**before.endpoints[Track.STABLE], more.id: more}}}
    )


class WatchedFiles(EnvoyFiles):
    """Notes the apps that it is to render."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.rendered: list[list[str]] = []

    def write(self, routes: Iterable[Route], *, only_endpoints: bool = False) -> list[str]:
        given = list(routes)
        self.rendered.append([each.app for each in given])
        return super().write(given, only_endpoints=only_endpoints)


def test_a_change_renders_one_app(plane: Plane, redis: Redis) -> None:
    folder = envoy_folder(plane.settings)
    files = WatchedFiles(folder)
    disk = Snapshot(folder), AbortedReleases(folder)
    store, traffic = RouteStore(redis, Vault(folder / "key", "test")), plane.counts.view
    control = ControlPlane(files, *disk, plane.control.admin, store, traffic, lambda: NOW, wake=lambda: None)
    control.put(with_more(plane, "app7"))
    control.abort("app8", "errors")

    at_start, *later = files.rendered
    assert sorted(at_start) == sorted(APPS)
    assert later == [["app7"], ["app8"]]


def test_a_change_writes_the_apps_own_files_and_the_shared_ones_only_if_they_differ(plane: Plane) -> None:
    before = inodes(plane)
    plane.control.put(with_more(plane, "app7"))
    assert written(plane, before) == {"routes/app7.json", "eds/app7.stable.json"}

    before = inodes(plane)
    plane.control.put(plane.control.route("app8").model_copy(update={"weight": 5}))
    assert written(plane, before) == {"routes/app8.json", "rds-public.json"}

    before = inodes(plane)
    plane.control.put(route(endpoint("new-r1-1"), app="new"))
    new = {"routes/new.json", "eds/new.stable.json", "eds/new.canary.json"}
    assert written(plane, before) == new | {"cds.json"} | RDS


async def test_the_files_after_many_changes_are_those_of_all_routes_rendered_anew(plane: Plane) -> None:
    control = plane.control
    control.put(route(endpoint("new-r1-1"), app="new").model_copy(update={"clusters": False}))
    await control.confirm("new", 1.0)
    control.put(control.route("app3").model_copy(update={"edge": EdgeSettings(catch_all=True)}))
    control.put(control.route("app4").model_copy(update={"hosts": ["app4.example.com"], "health": "/healthz"}))
    control.put(with_more(plane, "app7"))
    control.abort("app8", "errors")

    folder, anew = envoy_folder(plane.settings), Configuration()
    names = {name for each in control.routes.values() for name in anew.put(each)}
    on_disk = {name: json.loads((folder / name).read_text()) for name in names}
    assert on_disk == {name: json.loads(anew.document(name)[1]) for name in names}
    hosts = on_disk["rds-public.json"]["resources"][0]["virtual_hosts"]
    assert sorted(host["name"] for host in hosts) == sorted([*APPS, "new"])


@pytest.mark.parametrize("place", ["routes", "eds"])
def test_what_could_not_be_written_is_written_with_the_next_change(plane: Plane, place: str) -> None:
    folder = envoy_folder(plane.settings)
    before = inodes(plane)
    (folder / place).rename(folder / "away")
    with pytest.raises(OSError, match="No such file"):
        plane.control.put(with_more(plane, "app7"))
    (folder / "away").rename(folder / place)

    plane.control.put(with_more(plane, "app8"))

    both = {name for app in ("app7", "app8") for name in (f"routes/{app}.json", f"eds/{app}.stable.json")}
    assert written(plane, before) == both
    changed = plane.control.route("app7")
    plane.start()
    assert plane.control.route("app7") == changed


async def test_events_that_are_stored_are_not_stored_again_after_redis_lost_them(plane: Plane, redis: Redis) -> None:
    plane.control.abort("app8", "errors")
    assert [event.id for event in await plane.events()] == ["app8-r2"]
    plane.control.put(with_more(plane, "app7"))
    await redis.flushdb()

    plane.start()

    assert await plane.events() == []


def test_only_routes_with_something_to_do_are_busy(tmp_path: Path, redis: Redis) -> None:
    quiet = route(endpoint("quiet-r1-1"), app="quiet")
    draining = route(endpoint("draining-r1-1", EndpointState.DRAINING), app="draining")
    plane = Plane(tmp_path, redis, quiet, draining, route(rollout="active-r2", app="active"))
    assert [each.app for each in plane.control.routes.busy()] == ["active", "draining"]

    plane.control.abort("active", "errors")
    assert [each.app for each in plane.control.routes.busy()] == ["active", "draining"], "it is to be retired"
    plane.control.put(plane.control.route("active").model_copy(update={"retirements": []}))
    plane.control.put(plane.control.route("draining").model_copy(update={"endpoints": quiet.endpoints}))
    assert plane.control.routes.busy() == []


async def test_who_waits_for_a_health_check_asks_for_the_versions_once_unless_a_file_changes(plane: Plane) -> None:
    with pytest.raises(Timeout, match="does not pass Envoy's health check") as late:
        await plane.control.confirm("app0", 0.1, healthy=True)
    assert late.value.extra["unhealthy"] == ["app0-r1-1", "app0-r2-1"]
    assert plane.asked["/clusters"] > 1
    assert plane.asked["/stats"] == 1

    before = plane.asked["/clusters"]
    waiting = asyncio.create_task(plane.control.confirm("app0", 0.1, healthy=True))
    while plane.asked["/clusters"] == before:
        await asyncio.sleep(0.001)
    plane.control.put(with_more(plane, "app0"))
    with pytest.raises(Timeout):
        await waiting
    assert plane.asked["/stats"] == 3
