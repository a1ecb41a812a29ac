"""The contract of RouteStore."""

import pytest
from redis.asyncio import Redis

from services.proxy.routes.route_store import RouteStore
from shared.models import Event
from tests.support.events import stored_events
from tests.support.proxy.routes import NOW, endpoint, route

pytestmark = pytest.mark.anyio

EVENT = Event(type="rollout.aborted", app="notes", at=NOW, id="notes-r2", reason="errors")
ROUTE = route(endpoint("notes-r1-1"), rollout="notes-r2").model_copy(update={"revision": 1, "unsent": [EVENT]})


async def test_a_saved_route_is_loaded_without_its_events(redis: Redis) -> None:
    store = RouteStore(redis)
    assert await store.load() == {}
    await store.save(ROUTE)
    assert await store.load() == {"notes": ROUTE.model_copy(update={"unsent": []})}
    assert await stored_events(redis) == [EVENT]


async def test_a_repeated_save_appends_no_event_twice(redis: Redis) -> None:
    store = RouteStore(redis)
    await store.save(ROUTE)
    await store.save(ROUTE)
    assert await stored_events(redis) == [EVENT]
    await store.save(ROUTE.model_copy(update={"revision": 2}))
    assert await stored_events(redis) == [EVENT, EVENT]
