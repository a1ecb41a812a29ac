"""Stores scaling policies and decisions in Redis."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from redis.asyncio import Redis

from services.monitor.scaling.scaling_decision import Action, Decision, Past
from services.monitor.scaling.scaling_input import EnvironmentKey
from services.monitor.scaling.scaling_policy import Policy
from shared import events
from shared.models import Environment, Event

POLICIES = "monitor:policies"
SCALING = "monitor:scaling"
SEEN = "monitor:environments"
DECISIONS_KEPT = 500


class PolicyStore:
    """Stores scaling policies and decisions in three kinds of hashes: `monitor:policies` (`<app>:<environment>` →
    Policy), `monitor:decisions:<app>:<environment>` (number → Decision), `monitor:scaling` (`<app>:<environment>` →
    numbers of the newest decision and the newest change). Every method raises `redis.RedisError` if Redis is
    unreachable; a write is atomic. The caller numbers the decisions of an environment without a gap. There is only one
    writer, because the monitor locks its data folder.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def policies(self) -> list[Policy]:
        """Returns the policies that people have set."""
        return [Policy.model_validate_json(text) for text in await self._redis.hvals(POLICIES)]

    async def put_policy(self, policy: Policy) -> None:
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.hset(POLICIES, _field(policy.key), policy.model_dump_json())
            pipe.zrem(SEEN, _field(policy.key))  # so that it is kept for the full time again
            await pipe.execute()

    async def environments(self) -> list[EnvironmentKey]:
        """Returns every environment that has decisions, sorted by name."""
        names: Any = await self._redis.hkeys(SCALING)
        pairs = (name.split(":") for name in names)
        return sorted((EnvironmentKey(app, Environment(environment)) for app, environment in pairs), key=str)

    async def past(self, key: EnvironmentKey) -> Past:
        text: Any = await self._redis.hget(SCALING, _field(key))
        if text is None:
            return Past()
        numbers = json.loads(text)
        last, change = await self._read(key, [numbers["last"], numbers["change"]])
        return Past(last, change)

    async def add(self, decision: Decision, event: Event | None = None, before: Decision | None = None) -> None:
        """Stores a new decision with its event, and the final form of the previous one (`before`), in one transaction.
        It does nothing if the decision is already stored, so that the event is published only once. The last 500
        decisions of an environment are kept.
        """
        key = EnvironmentKey(decision.app, decision.environment)
        name = decisions_key(key)

        async def write(pipe: Any) -> None:
            if await pipe.hexists(name, str(decision.number)):
                return
            numbers = json.loads(await pipe.hget(SCALING, _field(key)) or '{"change": 0}')
            numbers["last"] = decision.number
            if decision.action is not Action.NONE:
                numbers["change"] = decision.number
            pipe.multi()
            if before is not None:
                pipe.hset(name, str(before.number), before.model_dump_json())
            pipe.hset(name, str(decision.number), decision.model_dump_json())
            pipe.hdel(name, str(decision.number - DECISIONS_KEPT))
            pipe.hset(SCALING, _field(key), json.dumps(numbers))
            if event is not None:
                events.append(pipe, event)

        await self._redis.transaction(write, name)  # after a lost connection, starts again from what is stored

    async def update(self, decision: Decision) -> None:
        """Replaces a stored decision, for example to add its outcome. Idempotent."""
        await self.update_all([decision])

    async def update_all(self, decisions: Iterable[Decision]) -> None:
        """Replaces stored decisions, with one call of Redis. Idempotent."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for decision in decisions:
                name = decisions_key(EnvironmentKey(decision.app, decision.environment))
                pipe.hset(name, str(decision.number), decision.model_dump_json())
            await pipe.execute()

    async def decisions(self, key: EnvironmentKey, *, limit: int, before: int | None = None) -> list[Decision]:
        """Returns at most `limit` decisions, newest first; with `before`, only those with a lower number."""
        text: Any = await self._redis.hget(SCALING, _field(key))
        last = json.loads(text)["last"] if text else 0
        top = last if before is None else min(last, before - 1)
        found = await self._read(key, range(top, max(top - limit, 0), -1))
        return [decision for decision in found if decision is not None]

    async def newest(self, keys: Sequence[EnvironmentKey], *, limit: int) -> dict[EnvironmentKey, list[Decision]]:
        """Returns environment → at most `limit` of its decisions, newest first, with two calls of Redis."""
        texts: Any = await self._redis.hmget(SCALING, [_field(key) for key in keys]) if keys else []
        last = {key: json.loads(text)["last"] for key, text in zip(keys, texts, strict=True) if text}
        async with self._redis.pipeline(transaction=False) as pipe:
            for key, number in last.items():
                pipe.hmget(decisions_key(key), [str(each) for each in range(number, max(number - limit, 0), -1)])
            answers = await pipe.execute()
        return {
            key: [Decision.model_validate_json(text) for text in found if text]
            for key, found in zip(last, answers, strict=True)
        }

    async def _read(self, key: EnvironmentKey, numbers: Sequence[int]) -> list[Decision | None]:
        if not numbers:
            return []
        texts = await self._redis.hmget(decisions_key(key), [str(number) for number in numbers])
        return [Decision.model_validate_json(text) if text else None for text in texts]


def _field(key: EnvironmentKey) -> str:
    return f"{key.app}:{key.environment}"


def decisions_key(key: EnvironmentKey) -> str:
    return f"monitor:decisions:{key.app}:{key.environment}"
