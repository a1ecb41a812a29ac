"""Holds rules and alerts in memory, where they are changed; changes are written to Redis later (write-behind)."""

import asyncio
import contextlib
from collections.abc import Container, Mapping
from datetime import datetime

from services.monitor.alerts.alert import (
    OPEN,
    AbortState,
    Alert,
    AlertState,
    alert_id,
    end,
    new_alert,
    new_platform_alert,
    next_alert,
    settle_abort,
)
from services.monitor.alerts.alert_store import AlertStore
from services.monitor.rules.rule import DEFAULTS, Reading, Rule, is_breaching
from shared.events import KEPT
from shared.models import Environment, Event
from shared.store import RedisError

ENDED_KEPT = 500
FIRST_LOAD_S = 2.0


class ActiveAlerts:
    """Holds alert rules and alerts in memory, and stores changes of alerts later, in `flush()`. Only changes of rules,
    `flush()` and the first `load()` wait for Redis; the other methods use the memory alone.
    """

    def __init__(self, store: AlertStore) -> None:
        self._store = store
        self._rules = dict(DEFAULTS)
        self._in_order = _in_order(self._rules)
        self._alerts: dict[str, Alert] = {}
        self._open: dict[tuple[str, Environment | None], dict[str, Alert]] = {}
        """App and environment → id → alert, of the pending and firing alerts in `_alerts`."""
        self._unsaved: set[str] = set()
        self._events: list[Event] = []
        self._loaded = False
        self._tried = False
        self._flushing = asyncio.Lock()

    # --- rules

    def rules(self) -> list[Rule]:
        """Returns the default rules and those that people have set, sorted by name."""
        return list(self._in_order)

    async def put_rule(self, rule: Rule) -> None:
        """Stores the rule, then applies it. Raises RedisError, and changes nothing, if Redis does not answer."""
        await self._store.put_rule(rule)
        self._set_rules(self._rules | {rule.name: rule})

    async def delete_rule(self, name: str) -> None:
        """Deletes the rule; a default rule gets its default values back. Raises RedisError, and changes nothing, if
        Redis does not answer.
        """
        await self._store.delete_rule(name)
        rules = {kept: rule for kept, rule in self._rules.items() if kept != name}
        self._set_rules(rules | ({name: DEFAULTS[name]} if name in DEFAULTS else {}))

    def _set_rules(self, rules: dict[str, Rule]) -> None:
        self._rules, self._in_order = rules, _in_order(rules)

    # --- alerts

    def alerts(self) -> list[Alert]:
        """Returns all alerts, newest change first."""
        return sorted(self._alerts.values(), key=lambda alert: alert.since, reverse=True)

    def get(self, name: str) -> Alert | None:
        return self._alerts.get(name)

    def open_alerts(self) -> list[Alert]:
        """Returns the pending and firing alerts."""
        return [alert for alerts in self._open.values() for alert in alerts.values()]

    def wanted_aborts(self) -> list[Alert]:
        """Returns the alerts whose abort the proxy has not answered yet, in the order in which they fired."""
        return sorted(
            (alert for alert in self._alerts.values() if alert.abort == AbortState.WANTED),
            key=lambda alert: alert.abort_at or alert.since,
        )

    def apply(
        self, app: str, environment: Environment, release: str, rule: Rule, reading: Reading, now: datetime
    ) -> bool:
        """Updates the alert of the rule about the release by one reading (the value of the rule's metric). Returns True
        if the alert changed.
        """
        before = self._alerts.get(alert_id(rule, release))
        breaching = is_breaching(rule, reading, firing=before is not None and before.state == AlertState.FIRING)
        if not breaching and (before is None or before.state not in OPEN):
            return False  # the common case, for every rule and release in every round
        before = before or new_alert(rule, app, environment, release, now)
        after = next_alert(before, breaching, rule, now, reading)
        self._put(before, after)
        return after != before

    def apply_to_platform(
        self, name: str, rule: Rule, service: str, breaching: bool | None, reason: str, now: datetime
    ) -> bool:
        """Updates the alert with the id `name`, about a problem of the platform. `breaching` is True if the problem is
        there, False if not, None if that is not known. Of `rule`, only the name and the durations are used. Returns
        True if the alert changed.
        """
        before = self._alerts.get(name)
        if not breaching and (before is None or before.state not in OPEN):
            return False
        before = before or new_platform_alert(name, rule.name, service, now)
        after = next_alert(before, breaching, rule, now, Reading(None, reason))
        after = after.model_copy(update={"metric": None, "threshold": None})
        self._put(before, after)
        return after != before

    def end_others(
        self, app: str, environment: Environment, releases: Container[str] | None, now: datetime, reason: str
    ) -> bool:
        """Ends open alerts of the app's environment: those whose rule no longer applies and, unless `releases` is None,
        those about a release that is not in `releases`. `reason` says why the latter end. Returns True if any alert was
        ended.
        """
        ended = False
        for alert in list(self._open.get((app, environment), {}).values()):
            rule = self._rules.get(alert.rule)
            if releases is not None and alert.release not in releases:
                self._put(alert, end(alert, now, reason))
            elif rule is None or not rule.concerns(app, environment):
                self._put(alert, end(alert, now, f"rule {alert.rule} was taken out of force"))
            else:
                continue
            ended = True
        return ended

    def end_release(self, release: str, now: datetime, reason: str) -> bool:
        """Ends the open alerts of the release; returns True if there were any."""
        mine = [alert for alert in self.open_alerts() if alert.app and alert.release == release]
        for alert in mine:
            self._put(alert, end(alert, now, reason))
        return bool(mine)

    def forget(self, app: str, now: datetime, reason: str) -> None:
        """Deletes all alerts of the app; the open ones end with an event, so that people hear of their end."""
        for alert in self.open_alerts():
            if alert.app == app:
                self._put(alert, end(alert, now, reason))
        mine = {name for name, alert in self._alerts.items() if alert.app == app}
        self._alerts = {name: alert for name, alert in self._alerts.items() if name not in mine}
        self._open = {key: alerts for key, alerts in self._open.items() if key[0] != app}
        self._unsaved |= mine

    def settle(self, alert: Alert, state: AbortState, now: datetime, reason: str) -> None:
        """Records the proxy's answer to the abort that the alert requested: `state` is confirmed or obsolete."""
        current = self._alerts.get(alert.id)
        if current is not None and current.abort == AbortState.WANTED:
            self._put(current, settle_abort(current, state, now, reason))

    def _put(self, before: Alert, after: Alert) -> None:
        if after == before:
            return
        if after.state == AlertState.INACTIVE and after.abort is None:
            self._alerts.pop(after.id, None)
        else:
            self._alerts[after.id] = after
        self._index(after)
        self._unsaved.add(after.id)
        if after.state not in (before.state, AlertState.INACTIVE):
            self._events.append(_event(after))
        self._forget_the_oldest()

    def _index(self, alert: Alert) -> None:
        alerts = self._open.setdefault((alert.app, alert.environment), {})
        if alert.state in OPEN:
            alerts[alert.id] = alert
        else:
            alerts.pop(alert.id, None)
        if not alerts:
            del self._open[alert.app, alert.environment]

    def _forget_the_oldest(self) -> None:
        if len(self._alerts) <= ENDED_KEPT:
            return
        ended = [alert for alert in self.alerts() if alert.state not in OPEN and alert.abort != AbortState.WANTED]
        for alert in ended[ENDED_KEPT:]:
            del self._alerts[alert.id]
            self._unsaved.add(alert.id)

    # --- Redis

    async def load(self) -> None:
        """Restores rules and alerts from the store, once. Alerts that have changed since the start are kept. Raises
        RedisError if Redis does not answer.
        """
        if self._loaded:
            return
        rules, alerts = await self._store.load()
        self._set_rules(self._rules | {rule.name: rule for rule in rules})
        self._alerts = {alert.id: alert for alert in alerts} | self._alerts
        for alert in self._alerts.values():
            self._index(alert)
        self._loaded = True

    async def load_if_possible(self) -> None:
        """Calls `load()` once, before the first reading, for at most 2 s. If that fails, goes on without earlier alerts
        until `flush()` has loaded them.
        """
        if not self._tried:
            self._tried = True
            with contextlib.suppress(RedisError, TimeoutError):
                await asyncio.wait_for(self.load(), FIRST_LOAD_S)

    async def flush(self) -> None:
        """Stores changed alerts with their events. Raises RedisError if Redis does not answer, and then keeps them for
        the next call.
        """
        async with self._flushing:
            await self.load()
            unsaved, events = self._unsaved, self._events
            self._unsaved, self._events = set(), []
            try:
                alerts = {name: self._alerts.get(name) for name in unsaved}
                if alerts or events:
                    await self._store.save(alerts, events)
            except BaseException:
                self._unsaved |= unsaved
                self._events = (events + self._events)[-KEPT:]
                raise


def _in_order(rules: Mapping[str, Rule]) -> list[Rule]:
    return [rules[name] for name in sorted(rules)]


def _event(alert: Alert) -> Event:
    same = {"app", "id", "reason", "release", "rule", "environment", "service", "value", "threshold", "aborts"}
    return Event(type=f"alert.{alert.state}", at=alert.since, **alert.model_dump(include=same))
