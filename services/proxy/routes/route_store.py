"""Store of routes and their events in Redis: `proxy:route:<app>`."""

from typing import Protocol

from redis.asyncio import Redis

from services.proxy.routes.route import Route
from shared import events
from shared.models import Event
from shared.store import RedisError

__all__ = ["MemoryRouteStore", "RedisRouteStore", "RouteStore"]


class RouteStore(Protocol):
    """Every method raises `redis.RedisError` when Redis is out of reach; writes are atomic."""

    async def load(self) -> dict[str, Route]:
        """Returns every route, by app."""
        ...

    async def save(self, route: Route) -> None:
        """Stores the route and appends its `unsent` events in the same transaction.

        One writer. Idempotent: a second save of the same revision changes nothing.
        """
        ...

    async def check(self) -> str | None:
        """Returns why Redis does not work, or None."""
        ...


class RedisRouteStore:
    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def load(self) -> dict[str, Route]:
        keys = [key async for key in self._redis.scan_iter("proxy:route:*", count=500)]
        values = await self._redis.mget(keys) if keys else []
        routes = [Route.model_validate_json(value) for value in values if value]
        return {route.app: route for route in routes}

    async def save(self, route: Route) -> None:
        key = f"proxy:route:{route.app}"
        async with self._redis.pipeline(transaction=True) as pipe:
            await pipe.watch(key)  # with a watch redis-py does not repeat the transaction by itself
            stored = await pipe.get(key)
            if stored and Route.model_validate_json(stored).revision == route.revision:
                return
            pipe.multi()  # type: ignore[no-untyped-call]
            pipe.set(key, route.model_copy(update={"unsent": []}).model_dump_json())
            for event in route.unsent:
                events.append(pipe, event)
            await pipe.execute()

    async def check(self) -> str | None:
        try:
            await self._redis.get("proxy:route:")
        except RedisError as error:
            return f"Redis does not answer ({type(error).__name__})"
        return None


class MemoryRouteStore:
    """Implements RouteStore in memory, for tests. `fault`, if set, is raised; `events` are those appended."""

    def __init__(self) -> None:
        self.fault: RedisError | None = None
        self.events: list[Event] = []
        self._routes: dict[str, Route] = {}

    async def load(self) -> dict[str, Route]:
        self._fail()
        return dict(self._routes)

    async def save(self, route: Route) -> None:
        self._fail()
        stored = self._routes.get(route.app)
        if stored and stored.revision == route.revision:
            return
        self._routes[route.app] = route.model_copy(update={"unsent": []}, deep=True)
        self.events += route.unsent

    async def check(self) -> str | None:
        return str(self.fault) if self.fault else None

    def _fail(self) -> None:
        if self.fault:
            raise self.fault
