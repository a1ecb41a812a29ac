"""Store of scaling policies and decisions."""

import json
from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis

from services.monitor.scaling.scaling_decision import Action, Decision, Past
from services.monitor.scaling.scaling_input import EnvironmentKey
from services.monitor.scaling.scaling_policy import Policy
from shared import events
from shared.models import Environment, Event

POLICIES = "monitor:policies"
SCALING = "monitor:scaling"
DECISIONS_KEPT = 500


class PolicyStore:
    """Uses three kinds of hashes: `monitor:policies` (`<app>:<environment>` → Policy),
    `monitor:decisions:<app>:<environment>` (number → Decision), `monitor:scaling` (`<app>:<environment>` → numbers of
    the newest entry and newest change).

    Every method raises `redis.RedisError` when Redis is out of reach; a write is atomic. One process decides (the
    monitor holds a lock on its home), so the caller numbers the entries, without a gap.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def policies(self) -> list[Policy]:
        """Returns the policies that were set."""
        return [Policy.model_validate_json(text) for text in await self._redis.hvals(POLICIES)]

    async def put_policy(self, policy: Policy) -> None:
        await self._redis.hset(POLICIES, _field(policy.place), policy.model_dump_json())

    async def places(self) -> list[EnvironmentKey]:
        """Returns every environment that has decisions, by name."""
        names: Any = await self._redis.hkeys(SCALING)
        pairs = (name.split(":") for name in names)
        return sorted((EnvironmentKey(app, Environment(environment)) for app, environment in pairs), key=str)

    async def past(self, place: EnvironmentKey) -> Past:
        text: Any = await self._redis.hget(SCALING, _field(place))
        if text is None:
            return Past()
        numbers = json.loads(text)
        last, change = await self._read(place, [numbers["last"], numbers["change"]])
        return Past(last, change)

    async def add(self, decision: Decision, event: Event | None = None, before: Decision | None = None) -> None:
        """Stores a new entry, its event, and the final form of the entry before it (`before`), atomically.

        Idempotent: it does nothing if the entry exists, so the event is published once. The last 500 entries of an
        environment are kept.
        """
        place = EnvironmentKey(decision.app, decision.environment)
        key = _decisions(place)

        async def write(pipe: Any) -> None:
            if await pipe.hexists(key, str(decision.number)):
                return
            numbers = json.loads(await pipe.hget(SCALING, _field(place)) or '{"change": 0}')
            numbers["last"] = decision.number
            if decision.action is not Action.NONE:
                numbers["change"] = decision.number
            pipe.multi()
            if before is not None:
                pipe.hset(key, str(before.number), before.model_dump_json())
            pipe.hset(key, str(decision.number), decision.model_dump_json())
            pipe.hdel(key, str(decision.number - DECISIONS_KEPT))
            pipe.hset(SCALING, _field(place), json.dumps(numbers))
            if event is not None:
                events.append(pipe, event)

        await self._redis.transaction(write, key)  # after a connection lost in the middle, what is stored decides

    async def update(self, decision: Decision) -> None:
        """Replaces an existing entry, for example with its outcome. Idempotent."""
        key = _decisions(EnvironmentKey(decision.app, decision.environment))
        await self._redis.hset(key, str(decision.number), decision.model_dump_json())

    async def decisions(self, place: EnvironmentKey, *, limit: int, before: int | None = None) -> list[Decision]:
        """Returns decisions, newest first, with a lower number than `before`."""
        text: Any = await self._redis.hget(SCALING, _field(place))
        last = json.loads(text)["last"] if text else 0
        top = last if before is None else min(last, before - 1)
        found = await self._read(place, range(top, max(top - limit, 0), -1))
        return [decision for decision in found if decision is not None]

    async def _read(self, place: EnvironmentKey, numbers: Sequence[int]) -> list[Decision | None]:
        if not numbers:
            return []
        texts = await self._redis.hmget(_decisions(place), [str(number) for number in numbers])
        return [Decision.model_validate_json(text) if text else None for text in texts]


def _field(place: EnvironmentKey) -> str:
    return f"{place.app}:{place.environment}"


def _decisions(place: EnvironmentKey) -> str:
    return f"monitor:decisions:{place.app}:{place.environment}"
