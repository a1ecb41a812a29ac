"""Stores the encrypted secrets of apps."""

from typing import Any, Protocol

from redis.asyncio import Redis

from services.build.secrets.secret import Secret
from shared.errors import NotFound


class SecretStore(Protocol):
    """Stores the secrets of apps. Every method raises `RedisError` when the store is out of reach; nothing is changed
    then, and the call can be repeated."""

    async def all(self, app: str) -> dict[str, Secret]:
        """Returns the secrets of an app, sorted by name."""
        ...

    async def put(self, app: str, name: str, secret: Secret) -> None: ...

    async def drop(self, app: str, name: str) -> None:
        """Removes a secret. Raises NotFound."""
        ...

    async def forget(self, app: str) -> None:
        """Removes all secrets of the app."""
        ...


class RedisSecretStore:
    """Stores `build:secrets:<app>`, a hash by name."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def all(self, app: str) -> dict[str, Secret]:
        stored: Any = await self._redis.hgetall(_key(app))
        return {name: Secret.model_validate_json(text) for name, text in sorted(stored.items())}

    async def put(self, app: str, name: str, secret: Secret) -> None:
        await self._redis.hset(_key(app), name, secret.model_dump_json())

    async def drop(self, app: str, name: str) -> None:
        if not await self._redis.hdel(_key(app), name):
            raise _not_known(app, name)

    async def forget(self, app: str) -> None:
        await self._redis.delete(_key(app))


class MemorySecretStore:
    """Stores secrets in memory, for tests."""

    def __init__(self) -> None:
        self._secrets: dict[str, dict[str, Secret]] = {}

    async def all(self, app: str) -> dict[str, Secret]:
        return dict(sorted(self._secrets.get(app, {}).items()))

    async def put(self, app: str, name: str, secret: Secret) -> None:
        self._secrets.setdefault(app, {})[name] = secret

    async def drop(self, app: str, name: str) -> None:
        if self._secrets.get(app, {}).pop(name, None) is None:
            raise _not_known(app, name)

    async def forget(self, app: str) -> None:
        self._secrets.pop(app, None)


def _key(app: str) -> str:
    return f"build:secrets:{app}"


def _not_known(app: str, name: str) -> NotFound:
    return NotFound(f"{app} has no secret {name}; GET /apps/{app}/secrets lists their names")
