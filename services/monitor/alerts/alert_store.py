"""Stores rules and alerts in Redis."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from pydantic import ValidationError
from redis.asyncio import Redis

from services.monitor.alerts.alert import Alert
from services.monitor.rules.rule import Rule
from shared.clock import none_ahead, now
from shared.events import append
from shared.models import Event

log = logging.getLogger(__name__)

RULES = "monitor:rules"
ALERTS = "monitor:alerts"
Kept = TypeVar("Kept", Rule, Alert)


class AlertStore:
    """Stores alert rules and alerts in the hashes `monitor:rules` (by name) and `monitor:alerts` (by id). Writes are
    atomic. Methods raise `redis.RedisError` if Redis does not answer.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def load(self) -> tuple[list[Rule], list[Alert]]:
        """Returns all rules and alerts. An entry that cannot be parsed is logged and left out. Times of alerts that lie
        in the future, since the clock was set back, are set to the present.
        """
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.hvals(RULES)
            pipe.hvals(ALERTS)
            rules, alerts = await pipe.execute()
        return _readable(Rule, rules), [none_ahead(alert, now()) for alert in _readable(Alert, alerts)]

    async def save(self, alerts: Mapping[str, Alert | None], events: Sequence[Event]) -> None:
        """Stores alerts by id (None deletes the alert) and appends their events, in one transaction."""
        async with self._redis.pipeline(transaction=True) as pipe:
            for name, alert in alerts.items():
                if alert is None:
                    pipe.hdel(ALERTS, name)
                else:
                    pipe.hset(ALERTS, name, alert.model_dump_json())
            for event in events:
                append(pipe, event)
            await pipe.execute()

    async def put_rule(self, rule: Rule) -> None:
        await self._redis.hset(RULES, rule.name, rule.model_dump_json())

    async def delete_rule(self, name: str) -> None:
        """Deletes the rule; does nothing if it does not exist."""
        await self._redis.hdel(RULES, name)


def _readable(kind: type[Kept], texts: Iterable[str]) -> list[Kept]:
    kept = []
    for text in texts:
        try:
            kept.append(kind.model_validate_json(text))
        except ValidationError as error:
            log.error("a stored %s cannot be read and is left out: %s", kind.__name__, error)
    return kept
