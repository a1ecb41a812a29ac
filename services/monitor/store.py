"""Where samples, rules and alerts live. The only user of Redis in this service."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from services.monitor.alert import Alert
from services.monitor.rule import Rule
from services.monitor.sample import Sample, Watched
from shared import events
from shared.models import Event

SAMPLES_KEPT = 1800  # an hour of one every 2 s
SAMPLES_TTL_S = 3600
RULES = "monitor:rules"
ALERTS = "monitor:alerts"


class SampleStore(Protocol):
    """Every method raises `redis.RedisError` when the store is out of reach."""

    async def add(self, batch: Sequence[Watched]) -> None:
        """Samples with their instances, oldest first. May be repeated: a sample that is there is not added again."""
        ...

    async def instances(self) -> list[Watched]:
        """Every instance that gave a sample within the last hour, last started first."""
        ...

    async def samples(self, instance: str, since: datetime, until: datetime) -> list[Sample]:
        """Oldest first, both ends included; kept for an hour."""
        ...


class AlertStore(Protocol):
    """Every method raises `redis.RedisError` when the store is out of reach; a write is then done wholly or not."""

    async def load(self) -> tuple[list[Rule], list[Alert]]: ...

    async def save(self, alerts: Mapping[str, Alert | None], told: Sequence[Event]) -> None:
        """Stores (None: removes) alerts by id, and appends the events of what happened to them, at once."""
        ...

    async def put_rule(self, rule: Rule) -> None: ...

    async def delete_rule(self, name: str) -> None:
        """Nothing happens if there is none."""
        ...


class RedisSampleStore:
    """`monitor:samples:<instance>`: stream of Sample, its ids the samples' times; `monitor:instance:<instance>`."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def add(self, batch: Sequence[Watched]) -> None:
        if not batch:
            return
        async with self._redis.pipeline(transaction=False) as pipe:
            for item in batch:
                stream = _samples(item.id)
                pipe.xadd(
                    stream,
                    {"sample": item.sample.model_dump_json()},
                    id=f"{_ms(item.sample.at)}-1",
                    maxlen=SAMPLES_KEPT,
                )
                pipe.expire(stream, SAMPLES_TTL_S)
                pipe.set(f"monitor:instance:{item.id}", item.model_dump_json(), ex=SAMPLES_TTL_S)
            for answer in await pipe.execute(raise_on_error=False):
                # An id that is not above the last one is a sample that was stored already, by a try that got no answer.
                if isinstance(answer, Exception) and not (
                    isinstance(answer, ResponseError) and "equal or smaller" in str(answer)
                ):
                    raise answer

    async def instances(self) -> list[Watched]:
        keys = [key async for key in self._redis.scan_iter("monitor:instance:*", count=500)]
        values = await self._redis.mget(keys) if keys else []
        return _by_start(Watched.model_validate_json(value) for value in values if value)

    async def samples(self, instance: str, since: datetime, until: datetime) -> list[Sample]:
        entries: Any = await self._redis.xrange(_samples(instance), min=str(_ms(since)), max=str(_ms(until)))
        return [Sample.model_validate_json(fields["sample"]) for _, fields in entries]


class MemorySampleStore:
    """For tests; forgets nothing."""

    def __init__(self) -> None:
        self._instances: dict[str, Watched] = {}
        self._samples: dict[str, dict[int, Sample]] = {}

    async def add(self, batch: Sequence[Watched]) -> None:
        for item in batch:
            self._instances[item.id] = item
            self._samples.setdefault(item.id, {}).setdefault(_ms(item.sample.at), item.sample)

    async def instances(self) -> list[Watched]:
        return _by_start(self._instances.values())

    async def samples(self, instance: str, since: datetime, until: datetime) -> list[Sample]:
        kept = self._samples.get(instance, {})
        return [item for at, item in sorted(kept.items()) if _ms(since) <= at <= _ms(until)]


class RedisAlertStore:
    """Hashes `monitor:rules` and `monitor:alerts`."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def load(self) -> tuple[list[Rule], list[Alert]]:
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.hvals(RULES)
            pipe.hvals(ALERTS)
            rules, alerts = await pipe.execute()
        return [Rule.model_validate_json(text) for text in rules], [Alert.model_validate_json(text) for text in alerts]

    async def save(self, alerts: Mapping[str, Alert | None], told: Sequence[Event]) -> None:
        async with self._redis.pipeline(transaction=True) as pipe:
            for name, alert in alerts.items():
                if alert is None:
                    pipe.hdel(ALERTS, name)
                else:
                    pipe.hset(ALERTS, name, alert.model_dump_json())
            for event in told:
                events.append(pipe, event)
            await pipe.execute()

    async def put_rule(self, rule: Rule) -> None:
        await self._redis.hset(RULES, rule.name, rule.model_dump_json())

    async def delete_rule(self, name: str) -> None:
        await self._redis.hdel(RULES, name)


class MemoryAlertStore:
    """For tests."""

    def __init__(self) -> None:
        self._rules: dict[str, Rule] = {}
        self._alerts: dict[str, Alert] = {}
        self.told: list[Event] = []

    async def load(self) -> tuple[list[Rule], list[Alert]]:
        return list(self._rules.values()), list(self._alerts.values())

    async def save(self, alerts: Mapping[str, Alert | None], told: Sequence[Event]) -> None:
        for name, alert in alerts.items():
            self._alerts.pop(name, None)
            if alert is not None:
                self._alerts[name] = alert
        self.told += told

    async def put_rule(self, rule: Rule) -> None:
        self._rules[rule.name] = rule

    async def delete_rule(self, name: str) -> None:
        self._rules.pop(name, None)


def _by_start(items: Any) -> list[Watched]:
    return sorted(items, key=lambda item: (item.started_at, item.id), reverse=True)


def _samples(instance: str) -> str:
    return f"monitor:samples:{instance}"


def _ms(at: datetime) -> int:
    return int(at.timestamp() * 1000)
