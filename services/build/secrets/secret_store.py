"""Stores the encrypted secrets of apps in Redis."""

from typing import Any

from redis.asyncio import Redis

from services.build.secrets.secret import Secret
from shared.errors import NotFound


class SecretStore:
    """Stores the secrets of apps in the hashes `build:secrets:<app>`, by name. Every method raises `RedisError` if
    Redis is unreachable, and has then changed nothing.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def all(self, app: str) -> dict[str, Secret]:
        """Returns name → secret of the app, sorted by name."""
        stored: Any = await self._redis.hgetall(_key(app))
        return {name: Secret.model_validate_json(text) for name, text in sorted(stored.items())}

    async def put(self, app: str, name: str, secret: Secret) -> None:
        await self._redis.hset(_key(app), name, secret.model_dump_json())

    async def drop(self, app: str, name: str) -> None:
        """Removes a secret. Raises NotFound if the app has none of this name."""
        if not await self._redis.hdel(_key(app), name):
            raise NotFound(f"{app} has no secret {name}; GET /apps/{app}/secrets lists their names")

    async def forget(self, app: str) -> None:
        """Removes all secrets of the app."""
        await self._redis.delete(_key(app))


def _key(app: str) -> str:
    return f"build:secrets:{app}"
