"""Store of rules and alerts."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, TypeVar

from pydantic import ValidationError
from redis.asyncio import Redis

from services.monitor.alerts.alert import Alert
from services.monitor.rules.rule import Rule
from shared import events
from shared.models import Event

log = logging.getLogger(__name__)

RULES = "monitor:rules"
ALERTS = "monitor:alerts"
Kept = TypeVar("Kept", Rule, Alert)


class AlertStore(Protocol):
    """Every method raises `redis.RedisError` when the store is out of reach; a write is atomic."""

    async def load(self) -> tuple[list[Rule], list[Alert]]:
        """Returns all rules and alerts. An unreadable entry is left out, so that it does not stop the watch over the
        others.
        """
        ...

    async def save(self, alerts: Mapping[str, Alert | None], told: Sequence[Event]) -> None:
        """Stores (None: removes) alerts by id and appends their events, atomically."""
        ...

    async def put_rule(self, rule: Rule) -> None: ...

    async def delete_rule(self, name: str) -> None:
        """Deletes the rule; does nothing if it does not exist."""
        ...


class RedisAlertStore:
    """Uses the hashes `monitor:rules` and `monitor:alerts`."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def load(self) -> tuple[list[Rule], list[Alert]]:
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.hvals(RULES)
            pipe.hvals(ALERTS)
            rules, alerts = await pipe.execute()
        return _readable(Rule, rules), _readable(Alert, alerts)

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
    """Implements AlertStore in memory, for tests."""

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


def _readable(kind: type[Kept], texts: Iterable[str]) -> list[Kept]:
    kept = []
    for text in texts:
        try:
            kept.append(kind.model_validate_json(text))
        except ValidationError as error:
            log.error("a stored %s cannot be read and is left out: %s", kind.__name__, error)
    return kept
