"""What forges are still to be told of builds: stored together with the change of the build that is told."""

from typing import Any, Protocol

from redis.asyncio import Redis

from services.build.builds.build import Build
from services.build.builds.status import Wanted, wanted

STATUSES = "build:statuses"
# Unless the build has changed meanwhile.
_DONE = "if redis.call('HGET', KEYS[1], ARGV[1]) == ARGV[2] then return redis.call('HDEL', KEYS[1], ARGV[1]) end"


class StatusTarget(Protocol):
    """A pipeline: the intent is stored in the same transaction as its cause."""

    def hset(self, name: Any, key: Any, value: Any) -> Any: ...


class StatusStore(Protocol):
    """Every method raises `RedisError` when the store is out of reach; nothing is changed then."""

    async def wanted(self) -> dict[str, Wanted]:
        """Build → what is to be told of it, which is all of it, not the difference."""
        ...

    async def done(self, build: str, told: Wanted) -> None:
        """Lets it go, unless something else is to be told by now. May be repeated."""
        ...


def mark(target: StatusTarget, before: Build | None, after: Build) -> None:
    """Queues on the pipeline what the change gives to tell. A newer state takes the older one's place."""
    if (text := news(before, after)) is not None:
        target.hset(STATUSES, after.id, text)


def news(before: Build | None, after: Build) -> str | None:
    """As JSON; None if nobody could see a difference."""
    told = wanted(after)
    return None if before is not None and wanted(before) == told else told.model_dump_json()


class RedisStatusStore:
    """`build:statuses`, a hash by build."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._done: Any = redis.register_script(_DONE)

    async def wanted(self) -> dict[str, Wanted]:
        kept: dict[Any, Any] = await self._redis.hgetall(STATUSES)
        return {build: Wanted.model_validate_json(text) for build, text in kept.items()}

    async def done(self, build: str, told: Wanted) -> None:
        await self._done([STATUSES], [build, told.model_dump_json()])


class MemoryStatusStore:
    """For tests. `texts`: what a MemoryBuildStore has put there."""

    def __init__(self, texts: dict[str, str]) -> None:
        self._texts = texts

    async def wanted(self) -> dict[str, Wanted]:
        return {build: Wanted.model_validate_json(text) for build, text in self._texts.items()}

    async def done(self, build: str, told: Wanted) -> None:
        if self._texts.get(build) == told.model_dump_json():
            del self._texts[build]
