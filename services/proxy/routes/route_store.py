"""Stores routes in Redis as `proxy:route:<app>`, and appends their events."""

import logging
import secrets
from collections.abc import Callable

from redis.asyncio import Redis

from services.proxy.routes.route import Route
from shared import events
from shared.security.vault import Vault, VaultError

log = logging.getLogger(__name__)


class RouteStore:
    """Stores routes in Redis; the proxy alone writes them. Writes are atomic. `load` and `save` raise RedisError. The
    override key of a rollout (the secret header value that forces the canary) is stored encrypted with `vault`.
    """

    def __init__(self, redis: Redis, vault: Vault) -> None:
        self._redis = redis
        self._vault = vault

    async def load(self) -> dict[str, Route]:
        """Returns app → route, as stored. If the override key of a rollout (the secret header value that forces the
        canary) cannot be decrypted, replaces it by a random one, so that no header forces this canary.
        """
        keys = [key async for key in self._redis.scan_iter("proxy:route:*", count=500)]
        values = await self._redis.mget(keys) if keys else []
        routes = [_with_key(Route.model_validate_json(value), self._opened) for value in values if value]
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
            kept = _with_key(route.model_copy(update={"unsent": []}), self._vault.seal)
            pipe.set(key, kept.model_dump_json())
            for event in route.unsent:
                events.append(pipe, event)
            await pipe.execute()

    async def remove(self, app: str) -> None:
        await self._redis.delete(f"proxy:route:{app}")

    def _opened(self, sealed: str) -> str:
        try:
            return self._vault.open(sealed)
        except VaultError as error:
            log.warning("the override key of a rollout cannot be read, so its header gets nobody the canary: %s", error)
            return secrets.token_hex()


def _with_key(route: Route, change: Callable[[str], str]) -> Route:
    """Returns the route with `change` applied to the override key of its rollout (the secret header value that forces
    the canary), if there is one.
    """
    rollout = route.rollout
    if rollout is None or not rollout.override_key:
        return route
    changed = rollout.model_copy(update={"override_key": change(rollout.override_key)})
    return route.model_copy(update={"rollout": changed})
