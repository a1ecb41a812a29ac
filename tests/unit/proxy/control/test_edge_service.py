"""Edge settings are replaced as a whole, checked, and kept with the route."""

import json
from pathlib import Path

import pytest
from redis.asyncio import Redis

from services.proxy.control.disk_state import Snapshot
from services.proxy.control.edge_service import EdgeService
from services.proxy.envoy.files import envoy_folder
from services.proxy.routes.edge import EdgeSettings, MappedPath
from services.proxy.routes.route import Route
from services.proxy.routes.route_store import RouteStore
from shared.errors import Conflict, Invalid, NotFound, Problem
from shared.security.vault import Vault
from tests.support.proxy.plane import Plane
from tests.support.proxy.routes import endpoint, route

pytestmark = pytest.mark.anyio

SHOP = EdgeSettings(hosts=["shop.example"], catch_all=True)
TO_SHOP = MappedPath(prefix="/api", app="shop")


@pytest.fixture
def plane(tmp_path: Path, redis: Redis) -> Plane:
    shop = route(endpoint("shop-r1-1", port=20001), app="shop").model_copy(update={"edge": SHOP})
    return Plane(tmp_path, redis, route(endpoint("notes-r1-1")), shop)


def edge(plane: Plane) -> EdgeService:
    return EdgeService(plane.control, "localhost")


async def test_settings_are_kept_in_their_normal_form_over_a_restart_and_in_redis(plane: Plane, redis: Redis) -> None:
    asked = EdgeSettings(
        hosts=["WWW.Example.com.", "*.example.com", "www.example.com"],
        canonical_host="Example.com",
        paths=[MappedPath(prefix="/api/", app="shop", strip=True)],
    )
    put = await edge(plane).put("notes", asked)
    assert put == EdgeSettings(
        hosts=["*.example.com", "www.example.com"],
        canonical_host="example.com",
        paths=[MappedPath(prefix="/api", app="shop", strip=True)],
    )
    assert plane.control.routes.owner_of("example.com") == "notes"

    plane.start()
    assert edge(plane).settings("notes") == put
    await plane.control.save()
    stored = await RouteStore(redis, Vault(envoy_folder(plane.settings) / "key", "proxy:override")).load()
    assert stored["notes"].edge == put
    assert await edge(plane).put("notes", EdgeSettings()) == EdgeSettings(), "what is left out gets its default"
    assert plane.control.routes.owner_of("example.com") is None


@pytest.mark.parametrize(
    ("asked", "kind", "words"),
    [
        (EdgeSettings(hosts=["ok.example", "no host"]), Invalid, "hosts.1: `no host` is not a host name"),
        (EdgeSettings(hosts=["shop.example"]), Conflict, "host shop.example belongs to app shop; "),
        (EdgeSettings(hosts=["later.localhost"]), Conflict, "host later.localhost belongs to app later; "),
        (EdgeSettings(canonical_host="shop.example"), Conflict, "host shop.example belongs to app shop; "),
        (EdgeSettings(canonical_host="*.example.com"), Invalid, "canonical_host: *.example.com stands for many"),
        (EdgeSettings(catch_all=True), Conflict, "app shop has the unknown host names; set its `catch_all` to false"),
        (EdgeSettings(paths=[TO_SHOP, TO_SHOP]), Invalid, "paths.1.prefix: /api is there twice"),
        (EdgeSettings(paths=[MappedPath(prefix="/a", app="other")]), Invalid, "paths.0.app: no release of other has"),
        *(
            (EdgeSettings(paths=[MappedPath(prefix=prefix, app="shop")]), Invalid, "paths.0.prefix: ")
            for prefix in ("", "/", "api", "//api", "/a//b", "/a/../b", "/.", "/a b", "/a?b", "/a%2fb", "/a\\b", "/ü")
        ),
    ],
)
async def test_what_is_not_allowed_is_refused_and_nothing_is_changed(
    plane: Plane, asked: EdgeSettings, kind: type[Problem], words: str
) -> None:
    before = plane.control.route("notes")
    with pytest.raises(kind) as refusal:
        await edge(plane).put("notes", asked)
    assert refusal.value.detail.startswith(words)
    assert plane.control.route("notes") == before


async def test_an_app_without_a_route_has_no_settings(plane: Plane) -> None:
    for call in (edge(plane).put("other", EdgeSettings()), edge(plane).put("other", EdgeSettings(hosts=["a b"]))):
        with pytest.raises(NotFound, match="no release of other has been routed yet; release a build of it first"):
            await call


def test_a_route_that_an_earlier_version_stored_keeps_the_unknown_hosts(tmp_path: Path) -> None:
    given = route(endpoint("notes-r1-1"), rollout="notes-r2")
    stored = {key: value for key, value in given.model_dump(mode="json").items() if key != "edge"}
    for catch_all in (True, False):
        assert Route.model_validate_json(json.dumps({**stored, "catch_all": catch_all})) == given.model_copy(
            update={"edge": EdgeSettings(catch_all=catch_all)}
        )
    (tmp_path / "routes").mkdir()
    (tmp_path / "routes" / "notes.json").write_text(json.dumps({**stored, "catch_all": True}))
    routes = Snapshot(tmp_path).read()
    assert routes is not None and routes["notes"].edge.catch_all
