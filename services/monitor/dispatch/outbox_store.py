"""Store of deliveries, alert groups and release contexts; an event is confirmed atomically with its outcome."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from services.monitor.dispatch.alert_group import AlertGroup
from services.monitor.dispatch.delivery import MessageDelivery
from services.monitor.notify.release_context import ReleaseContext
from shared.events import STREAM

GROUP = "notifications"  # the consumer group; not that of the follower that acts at once
DELIVERIES = "monitor:deliveries"
ORDER = "monitor:deliveries:order"
DUE = "monitor:deliveries:due"
ALERT_GROUPS = "monitor:alert-groups"
KNOWN = "monitor:known"
KEPT = 500


@dataclass
class SendOutcome:
    """The outcome of an event, or of a look at an alert group."""

    deliveries: list[MessageDelivery] = field(default_factory=list)
    groups: dict[str, AlertGroup | None] = field(default_factory=dict)
    """Changed groups by name; None for one that is over."""
    known: dict[str, ReleaseContext] = field(default_factory=dict)
    """Changed release contexts by `<app>:<environment>`."""


class DueDeliveries(NamedTuple):
    """A delivery that is due."""

    id: str
    server: str


class OutboxStore(Protocol):
    """Has one writer. Every method raises `redis.RedisError` when the store is out of reach; writes are atomic and
    idempotent.
    """

    async def prepare(self, since: datetime) -> None:
        """Creates the consumer group at the very first start; it then reads the events from `since` on."""
        ...

    async def settle(self, outcome: SendOutcome, entry_id: str | None = None) -> None:
        """Stores the outcome and confirms the event, atomically. A delivery that exists stays as it is."""
        ...

    async def groups(self) -> dict[str, AlertGroup]: ...

    async def known(self) -> dict[str, ReleaseContext]: ...

    async def due(self, now: datetime) -> list[DueDeliveries]:
        """Returns the deliveries that are due, longest due first, those in `sending` too."""
        ...

    async def get(self, ids: Sequence[str]) -> list[MessageDelivery]: ...

    async def save(self, delivery: MessageDelivery) -> None:
        """Stores the delivery, replacing its previous version."""
        ...

    async def deliveries(self) -> list[MessageDelivery]:
        """Returns deliveries, newest first: the newest 500, and older ones that have not ended."""
        ...

    async def trim(self) -> None:
        """Deletes the deliveries that `deliveries` does not list."""
        ...


class RedisOutboxStore:
    """Uses the hash `monitor:deliveries` by id, and two sorted sets: `…:order` of ids by creation time, `…:due` of
    `<id> <server>` by due time (ms); also the hashes `monitor:alert-groups` and `monitor:known`.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def prepare(self, since: datetime) -> None:
        try:
            await self._redis.xgroup_create(STREAM, GROUP, id=f"{_ms(since)}-0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise

    async def settle(self, outcome: SendOutcome, entry_id: str | None = None) -> None:
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
            for name, known in outcome.known.items():
                pipe.hset(KNOWN, name, known.model_dump_json())
            if entry_id is not None:
                pipe.xack(STREAM, GROUP, entry_id)
            await pipe.execute()

    async def groups(self) -> dict[str, AlertGroup]:
        kept: dict[Any, Any] = await self._redis.hgetall(ALERT_GROUPS)
        return {name: AlertGroup.model_validate_json(text) for name, text in kept.items()}

    async def known(self) -> dict[str, ReleaseContext]:
        kept: dict[Any, Any] = await self._redis.hgetall(KNOWN)
        return {name: ReleaseContext.model_validate_json(text) for name, text in kept.items()}

    async def due(self, now: datetime) -> list[DueDeliveries]:
        members: list[Any] = await self._redis.zrangebyscore(DUE, "-inf", _ms(now))
        return [DueDeliveries(*member.split(" ", 1)) for member in members]

    async def get(self, ids: Sequence[str]) -> list[MessageDelivery]:
        texts = await self._redis.hmget(DELIVERIES, ids) if ids else []
        return [MessageDelivery.model_validate_json(text) for text in texts if text]

    async def save(self, delivery: MessageDelivery) -> None:
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.hset(DELIVERIES, delivery.id, delivery.model_dump_json())
            if delivery.due_at:
                pipe.zadd(DUE, {_member(delivery): _ms(delivery.due_at)})
            else:
                pipe.zrem(DUE, _member(delivery))
            await pipe.execute()

    async def deliveries(self) -> list[MessageDelivery]:
        ids: list[Any] = await self._redis.zrevrange(ORDER, 0, -1)
        return _listed(await self.get(ids))

    async def trim(self) -> None:
        old: list[Any] = await self._redis.zrevrange(ORDER, KEPT, -1)
        ended = [delivery.id for delivery in await self.get(old) if delivery.ended]
        if ended:
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.zrem(ORDER, *ended)
                pipe.hdel(DELIVERIES, *ended)
                await pipe.execute()


class MemoryOutboxStore:
    """Implements OutboxStore in memory, for tests. `confirmed`: the stream entries that were settled."""

    def __init__(self) -> None:
        self.confirmed: list[str] = []
        self._deliveries: dict[str, MessageDelivery] = {}
        self._groups: dict[str, AlertGroup] = {}
        self._known: dict[str, ReleaseContext] = {}

    async def prepare(self, since: datetime) -> None:
        pass

    async def settle(self, outcome: SendOutcome, entry_id: str | None = None) -> None:
        for delivery in outcome.deliveries:
            self._deliveries.setdefault(delivery.id, delivery)
        for name, group in outcome.groups.items():
            self._groups.pop(name, None)
            if group is not None:
                self._groups[name] = group
        self._known |= outcome.known
        if entry_id is not None:
            self.confirmed.append(entry_id)

    async def groups(self) -> dict[str, AlertGroup]:
        return dict(self._groups)

    async def known(self) -> dict[str, ReleaseContext]:
        return dict(self._known)

    async def due(self, now: datetime) -> list[DueDeliveries]:
        waiting = [each for each in self._deliveries.values() if each.due_at and each.due_at <= now]
        return [DueDeliveries(each.id, each.server) for each in sorted(waiting, key=lambda each: each.due_at or now)]

    async def get(self, ids: Sequence[str]) -> list[MessageDelivery]:
        return [self._deliveries[each] for each in ids if each in self._deliveries]

    async def save(self, delivery: MessageDelivery) -> None:
        self._deliveries[delivery.id] = delivery

    async def deliveries(self) -> list[MessageDelivery]:
        newest_first = sorted(self._deliveries.values(), key=lambda each: (each.created_at, each.id), reverse=True)
        return _listed(newest_first)

    async def trim(self) -> None:
        self._deliveries = {each.id: each for each in await self.deliveries()}


def _listed(newest_first: Sequence[MessageDelivery]) -> list[MessageDelivery]:
    return [each for at, each in enumerate(newest_first) if at < KEPT or not each.ended]


def _member(delivery: MessageDelivery) -> str:
    return f"{delivery.id} {delivery.server}"


def _ms(at: datetime) -> int:
    return int(at.timestamp() * 1000)
