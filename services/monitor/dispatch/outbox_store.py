"""Stores deliveries, alert groups and release contexts in Redis. An event is acknowledged in the same transaction that
stores its outcome.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from services.monitor.dispatch.alert_group import AlertGroup
from services.monitor.dispatch.delivery import MessageDelivery, MessageDeliveryState
from services.monitor.notify.release_context import ReleaseContext
from shared.events import STREAM
from shared.models import Environment
from shared.web.paging import time_key

GROUP = "notifications"  # consumer group of messages; alerts and aborts have another
DELIVERIES = "monitor:deliveries"
ORDER = "monitor:deliveries:order"
DUE = "monitor:deliveries:due"
ALERT_GROUPS = "monitor:alert-groups"
CONTEXTS = "monitor:known"
KEPT = 500
BATCH = 100
LATEST = timedelta(minutes=10)  # no delivery waits for so long


@dataclass
class SendOutcome:
    """Holds the records to store after an event, or after the flush of an alert group."""

    deliveries: list[MessageDelivery] = field(default_factory=list)
    groups: dict[str, AlertGroup | None] = field(default_factory=dict)
    """Name of a changed alert group → the group; None if it has ended."""
    contexts: dict[str, ReleaseContext] = field(default_factory=dict)
    """`<app>:<environment>` → changed release context."""


class DueDeliveries(NamedTuple):
    """Names a delivery that is due, and the server that gets its message."""

    id: str
    server: str


class OutboxStore:
    """Stores deliveries, alert groups and release contexts. Keys: the hash `monitor:deliveries` (by id), the sorted
    sets `monitor:deliveries:order` (ids by creation time) and `monitor:deliveries:due` (`<id> <server>` by due time in
    ms), and the hashes `monitor:alert-groups` and `monitor:known` (release contexts). There is one writer. Every method
    raises `redis.RedisError` if Redis is unreachable; writes are atomic and idempotent.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def prepare(self, since: datetime) -> None:
        """Creates the consumer group, which reads the events from the time `since` on; does nothing if it exists."""
        try:
            await self._redis.xgroup_create(STREAM, GROUP, id=f"{_ms(since)}-0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise

    async def settle(self, outcome: SendOutcome, entry_id: str | None = None) -> None:
        """Stores the outcome and acknowledges the stream entry, in one transaction. A delivery that is already stored
        is not overwritten.
        """
        async with self._redis.pipeline(transaction=True) as pipe:
            for delivery in outcome.deliveries:
                pipe.hsetnx(DELIVERIES, delivery.id, delivery.model_dump_json())
                pipe.zadd(ORDER, {delivery.id: _ms(delivery.created_at)}, nx=True)
                if delivery.due_at:
                    pipe.zadd(DUE, {_member(delivery): _ms(delivery.due_at)}, nx=True)
            for name, group in outcome.groups.items():
                if group is None:
                    pipe.hdel(ALERT_GROUPS, name)
                else:
                    pipe.hset(ALERT_GROUPS, name, group.model_dump_json())
            for name, context in outcome.contexts.items():
                pipe.hset(CONTEXTS, name, context.model_dump_json())
            if entry_id is not None:
                pipe.xack(STREAM, GROUP, entry_id)
            await pipe.execute()
        if any(delivery.ended for delivery in outcome.deliveries):  # keeps the list of ended ones short
            await self.trim()

    async def groups(self) -> dict[str, AlertGroup]:
        kept: dict[Any, Any] = await self._redis.hgetall(ALERT_GROUPS)
        return {name: AlertGroup.model_validate_json(text) for name, text in kept.items()}

    async def contexts(self, app: str) -> dict[str, ReleaseContext]:
        """Returns `<app>:<environment>` → release context, for the app's environments that have one."""
        names = [f"{app}:{environment}" for environment in Environment]
        texts: list[Any] = await self._redis.hmget(CONTEXTS, names)
        return {n: ReleaseContext.model_validate_json(text) for n, text in zip(names, texts, strict=True) if text}

    async def due(self, now: datetime) -> list[DueDeliveries]:
        """Returns the deliveries that are due, longest due first, including those in the state `sending`; then those
        that are due later than any delivery ever is: the clock was set back since they were stored.
        """
        members: list[Any] = await self._redis.zrangebyscore(DUE, "-inf", _ms(now))
        members += await self._redis.zrangebyscore(DUE, f"({_ms(now + LATEST)}", "+inf")
        return [DueDeliveries(*member.split(" ", 1)) for member in members]

    async def next_due_s(self, now: datetime) -> float | None:
        """Returns the seconds until the next delivery becomes due that is not due yet; None if there is none."""
        found: Any = await self._redis.zrangebyscore(DUE, f"({_ms(now)}", "+inf", start=0, num=1, withscores=True)
        return (found[0][1] - _ms(now)) / 1000 if found else None

    async def get(self, ids: Sequence[str]) -> list[MessageDelivery]:
        texts = await self._redis.hmget(DELIVERIES, ids) if ids else []
        return [MessageDelivery.model_validate_json(text) for text in texts if text]

    async def save(self, delivery: MessageDelivery) -> None:
        """Stores the delivery, replacing its previous version."""
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.hset(DELIVERIES, delivery.id, delivery.model_dump_json())
            if delivery.due_at:
                pipe.zadd(DUE, {_member(delivery): _ms(delivery.due_at)})
            else:
                pipe.zrem(DUE, _member(delivery))
            await pipe.execute()

    async def deliveries(
        self,
        *,
        limit: int = KEPT,
        before: str | None = None,
        app: str | None = None,
        state: MessageDeliveryState | None = None,
    ) -> list[MessageDelivery]:
        """Returns at most `limit` deliveries, newest first; only those of `app` and in `state`, if these are given.
        `before` is the sort key (time and id) of a delivery: if it is given, only deliveries that come after that one
        in this order are returned.
        """
        highest = before.partition("-")[0] if before else "+inf"
        found: list[MessageDelivery] = []
        read = 0
        while len(found) < limit:
            ids: list[Any] = await self._redis.zrevrangebyscore(ORDER, highest, "-inf", start=read, num=BATCH)
            if not ids:
                break
            read += len(ids)
            found += [
                each
                for each in await self.get(ids)
                if (before is None or time_key(each.created_at, each.id) < before)
                and app in (None, each.app)
                and state in (None, each.state)
            ]
        return found[:limit]

    async def trim(self) -> None:
        """Deletes ended deliveries that are not among the newest 500; at most 100 in one call."""
        old: list[Any] = await self._redis.zrevrange(ORDER, KEPT, KEPT + BATCH - 1)
        ended = [delivery.id for delivery in await self.get(old) if delivery.ended]
        if ended:
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.zrem(ORDER, *ended)
                pipe.hdel(DELIVERIES, *ended)
                await pipe.execute()


def _member(delivery: MessageDelivery) -> str:
    return f"{delivery.id} {delivery.server}"


def _ms(at: datetime) -> int:
    return int(at.timestamp() * 1000)
