"""The contract of RouteStore, against both implementations."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from redis.asyncio import Redis

from services.proxy.routes.route_store import MemoryRouteStore, RedisRouteStore, RouteStore
from shared.models import Event
from tests.support.proxy.routes import NOW, endpoint, route

pytestmark = pytest.mark.anyio

Told = Callable[[], Awaitable[list[Event]]]
EVENT = Event(type="rollout.aborted", app="notes", at=NOW, id="notes-r2", reason="errors")
ROUTE = route(endpoint("notes-r1-1"), rollout="notes-r2").model_copy(update={"revision": 1, "unsent": [EVENT]})


@pytest.fixture(params=["memory", "redis"])
async def store(request: pytest.FixtureRequest, redis: Redis) -> AsyncIterator[tuple[RouteStore, Told]]:
    if request.param == "memory":
        memory = MemoryRouteStore()

        async def remembered() -> list[Event]:
            return memory.events

        yield memory, remembered
        return

    async def streamed() -> list[Event]:
        stream: Any = await redis.xrange("events")
        return [Event.model_validate_json(fields["event"]) for _, fields in stream]

    yield RedisRouteStore(redis), streamed


async def test_a_saved_route_is_loaded_without_its_events(store: tuple[RouteStore, Told]) -> None:
    routes, told = store
    assert await routes.load() == {}
    await routes.save(ROUTE)
    assert await routes.load() == {"notes": ROUTE.model_copy(update={"unsent": []})}
    assert await told() == [EVENT]


async def test_a_repeated_save_tells_nothing_twice(store: tuple[RouteStore, Told]) -> None:
    routes, told = store
    await routes.save(ROUTE)
    await routes.save(ROUTE)
    assert await told() == [EVENT]
    await routes.save(ROUTE.model_copy(update={"revision": 2}))
    assert await told() == [EVENT, EVENT]


async def test_a_store_that_answers_is_well(store: tuple[RouteStore, Told]) -> None:
    assert await store[0].check() is None
