"""Stores routes in Redis as `proxy:route:<app>`, and appends their events."""

from redis.asyncio import Redis

from services.proxy.routes.route import Route
from shared import events


class RouteStore:
    """Stores routes; the proxy alone writes them. Writes are atomic. `load` and `save` raise RedisError."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def load(self) -> dict[str, Route]:
        """Returns app → route, as stored."""
        keys = [key async for key in self._redis.scan_iter("proxy:route:*", count=500)]
        values = await self._redis.mget(keys) if keys else []
        routes = [Route.model_validate_json(value) for value in values if value]
        return {route.app: route for route in routes}

    async def save(self, route: Route) -> None:
        """Stores the route and appends its `unsent` events, in one transaction. A repeated call with the same revision
        does nothing.
        """
        key = f"proxy:route:{route.app}"
        async with self._redis.pipeline(transaction=True) as pipe:
            await pipe.watch(key)  # with a watch, redis-py does not repeat the transaction
            stored = await pipe.get(key)
            if stored and Route.model_validate_json(stored).revision == route.revision:
                return
            pipe.multi()  # type: ignore[no-untyped-call]
            pipe.set(key, route.model_copy(update={"unsent": []}).model_dump_json())
            for event in route.unsent:
                events.append(pipe, event)
            await pipe.execute()

    async def remove(self, app: str) -> None:
        await self._redis.delete(f"proxy:route:{app}")
