"""Stores webhook deliveries in Redis: the newest 200 of each app, and for 8 days the ids that forges gave them."""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from redis.asyncio import Redis

from services.build.forges.delivery import WebhookDelivery
from shared.errors import NotFound

Item = TypeVar("Item")
KEPT = 200
BATCH = 50
REMEMBERED_S = 8 * 86400  # a forge sends again for hours, a person for days; each id takes some 100 bytes
WAITING = "build:deliveries-waiting"

# One call, so that no delivery's id is remembered without the delivery. Returns the number under which the forge's id
# is known: of the new delivery, or of the first one.
_ADD = """
local known = redis.call('GET', KEYS[1])
if known then return known end
local number = redis.call('INCR', KEYS[2])
redis.call('SET', KEYS[1], number, 'EX', ARGV[1])
redis.call('HSET', KEYS[3], number, ARGV[2])
if ARGV[3] ~= '' then redis.call('SADD', KEYS[4], ARGV[3] .. ' ' .. number) end
return 'new ' .. number
"""


class DeliveryStore:
    """Stores webhook deliveries. Keys: `build:deliveries:<app>` (hash by number), `build:delivery-number:<app>`
    (counter), `build:deliveries-waiting` (set of `<app> <number>`) and `build:delivered:<app>:<digest of the forge's
    id>` → number. Every method raises `RedisError` when Redis is unreachable. Each write is atomic, except `save`.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._add: Any = redis.register_script(_ADD)

    async def add(self, delivery: WebhookDelivery) -> tuple[WebhookDelivery, bool]:
        """Stores the delivery under a new id, and returns it with True. If the forge has sent the same `forge_id` in
        the last 8 days, stores nothing, and returns the earlier delivery with False; if that one has been deleted,
        returns `delivery` with the earlier one's id.
        """
        app = delivery.app
        digest = hashlib.sha256(delivery.forge_id.encode()).hexdigest()[:32]
        keys = [f"build:delivered:{app}:{digest}", f"build:delivery-number:{app}", _key(app), WAITING]
        text = delivery.model_dump_json(exclude={"id"})
        answer: str = await self._add(keys, [REMEMBERED_S, text, app if delivery.waits else ""])
        new, number = answer.startswith("new "), answer.removeprefix("new ")
        if new:
            return _numbered(delivery, number), True
        stored: Any = await self._redis.hget(_key(app), number)
        return _numbered(WebhookDelivery.model_validate_json(stored) if stored else delivery, number), False

    async def save(self, deliveries: Sequence[WebhookDelivery]) -> None:
        """Replaces the stored deliveries that have the same ids. A delivery that has been removed from the store stays
        removed.
        """
        for batch in _batches(deliveries):
            async with self._redis.pipeline(transaction=False) as pipe:
                for delivery in batch:
                    pipe.hexists(_key(delivery.app), number_of(delivery.id))
                kept = await pipe.execute()
            async with self._redis.pipeline(transaction=True) as pipe:
                for delivery, is_kept in zip(batch, kept, strict=True):
                    number = number_of(delivery.id)
                    if is_kept:
                        pipe.hset(_key(delivery.app), number, delivery.model_dump_json(exclude={"id"}))
                    waits = delivery.waits and is_kept
                    (pipe.sadd if waits else pipe.srem)(WAITING, f"{delivery.app} {number}")
                await pipe.execute()

    async def delivery(self, app: str, delivery_id: str) -> WebhookDelivery:
        """Returns the delivery. Raises NotFound if the app has no delivery of this id, or no longer has it."""
        number = number_of(delivery_id)
        stored: Any = await self._redis.hget(_key(app), number) if delivery_id == f"{app}-d{number}" else None
        if stored is None:
            raise NotFound(f"{app} has no delivery {delivery_id}; the newest {KEPT} are kept")
        return _numbered(WebhookDelivery.model_validate_json(stored), number)

    async def deliveries(self, app: str, *, limit: int = KEPT, before: int | None = None) -> list[WebhookDelivery]:
        """Returns at most `limit` deliveries, newest first; with `before`, only those with a lower number."""
        numbers = [number for number in await self._numbers(app) if before is None or int(number) < before]
        return await self._get(app, numbers[:limit])

    async def apps_waiting(self) -> set[str]:
        """Returns the apps that have a delivery in the state `received`."""
        members: Any = await self._redis.smembers(WAITING)
        return {member.partition(" ")[0] for member in members}

    async def waiting(self, app: str) -> list[WebhookDelivery]:
        """Returns the app's deliveries in the state `received`, oldest first."""
        members: Any = await self._redis.smembers(WAITING)
        numbers = [member.partition(" ")[2] for member in members if member.startswith(f"{app} ")]
        return [delivery for delivery in await self._get(app, sorted(numbers, key=int)) if delivery.waits]

    async def trim(self, app: str) -> None:
        """Removes all but the newest 200 deliveries; those in the state `received` stay."""
        old = (await self._numbers(app))[KEPT:]
        ended = [number_of(delivery.id) for delivery in await self._get(app, old) if not delivery.waits]
        if ended:
            await self._redis.hdel(_key(app), *ended)

    async def forget(self, app: str) -> None:
        """Removes all deliveries of the app."""
        members: Any = await self._redis.smembers(WAITING)
        async with self._redis.pipeline(transaction=True) as pipe:
            for member in members:
                if member.startswith(f"{app} "):
                    pipe.srem(WAITING, member)
            pipe.delete(_key(app), f"build:delivery-number:{app}")
            await pipe.execute()
        async for key in self._redis.scan_iter(f"build:delivered:{app}:*", count=1000):
            await self._redis.delete(key)

    async def _numbers(self, app: str) -> list[str]:
        """Returns the numbers of the stored deliveries, newest first."""
        numbers: Any = await self._redis.hkeys(_key(app))
        return sorted(numbers, key=int, reverse=True)

    async def _get(self, app: str, numbers: Sequence[str]) -> list[WebhookDelivery]:
        found = []
        for batch in _batches(numbers):
            texts: Any = await self._redis.hmget(_key(app), batch)
            found += [
                _numbered(WebhookDelivery.model_validate_json(text), number)
                for number, text in zip(batch, texts, strict=True)
                if text
            ]
        return found


def _batches(items: Sequence[Item]) -> Iterator[list[Item]]:
    """Yields the items in lists of at most 50, so that the event loop is not blocked by long reads and writes."""
    for start in range(0, len(items), BATCH):
        yield list(items[start : start + BATCH])


def _key(app: str) -> str:
    return f"build:deliveries:{app}"


def number_of(delivery_id: str) -> str:
    """Returns the number in a delivery's id: `7` for `notes-d7`."""
    return delivery_id.rpartition("-d")[2]


def _numbered(delivery: WebhookDelivery, number: str) -> WebhookDelivery:
    return delivery.model_copy(update={"id": f"{delivery.app}-d{number}"})
