"""Where the secrets of apps are kept, beside the apps. What is stored is encrypted."""

from typing import Any, Protocol

from redis.asyncio import Redis

from services.build.secrets.secret import Secret
from shared.errors import NotFound


class SecretStore(Protocol):
    """Every method raises `RedisError` when the store is out of reach; nothing is changed then. Every call may be
    repeated."""

    async def all(self, app: str) -> dict[str, Secret]:
        """Sorted by name."""
        ...

    async def put(self, app: str, name: str, secret: Secret) -> None: ...

    async def drop(self, app: str, name: str) -> None:
        """Raises NotFound."""
        ...

    async def forget(self, app: str) -> None:
        """Everything of the app."""
        ...


class RedisSecretStore:
    """`build:secrets:<app>`, a hash by name."""

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
    """For tests."""

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
