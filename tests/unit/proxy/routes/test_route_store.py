"""The contract of RouteStore."""

from pathlib import Path

import pytest
from redis.asyncio import Redis

from services.proxy.routes.route import Route
from services.proxy.routes.route_store import RouteStore
from shared.models import Event
from shared.security.vault import Vault
from tests.support.events import stored_events
from tests.support.proxy.routes import NOW, endpoint, route

pytestmark = pytest.mark.anyio

EVENT = Event(type="rollout.aborted", app="notes", at=NOW, id="notes-r2", reason="errors")
ROUTE = route(endpoint("notes-r1-1"), rollout="notes-r2").model_copy(update={"revision": 1, "unsent": [EVENT]})


def route_store(redis: Redis, folder: Path) -> RouteStore:
    return RouteStore(redis, Vault(folder / "key", "test"))


def with_key(given: Route, key: str) -> Route:
    assert given.rollout is not None
    return given.model_copy(update={"rollout": given.rollout.model_copy(update={"override_key": key}), "unsent": []})


async def test_a_saved_route_is_loaded_without_its_events(redis: Redis, tmp_path: Path) -> None:
    store = route_store(redis, tmp_path)
    assert await store.load() == {}
    await store.save(ROUTE)
    assert await store.load() == {"notes": ROUTE.model_copy(update={"unsent": []})}
    assert await stored_events(redis) == [EVENT]


async def test_a_repeated_save_appends_no_event_twice(redis: Redis, tmp_path: Path) -> None:
    store = route_store(redis, tmp_path)
    await store.save(ROUTE)
    await store.save(ROUTE)
    assert await stored_events(redis) == [EVENT]
    await store.save(ROUTE.model_copy(update={"revision": 2}))
    assert await stored_events(redis) == [EVENT, EVENT]


async def test_an_override_key_is_stored_encrypted(redis: Redis, tmp_path: Path) -> None:
    store, given = route_store(redis, tmp_path), with_key(ROUTE, "open sesame")
    await store.save(given)
    assert "open sesame" not in str(await redis.get("proxy:route:notes"))
    assert await store.load() == {"notes": given}


async def test_an_override_key_that_cannot_be_decrypted_is_not_forgotten_but_replaced_by_one_that_nobody_knows(
    redis: Redis, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await route_store(redis, tmp_path).save(with_key(ROUTE, "open sesame"))
    (tmp_path / "key").unlink()
    [loaded] = (await route_store(redis, tmp_path).load()).values()
    assert loaded.rollout is not None
    assert len(loaded.rollout.override_key) == 64
    assert "header gets nobody the canary" in caplog.text
