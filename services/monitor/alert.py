"""An alert: one rule about one release. Prometheus' states, and how far the abort is that it asks for."""

from datetime import datetime
from enum import StrEnum

from services.monitor.rule import Rule
from shared.models import View
from shared.state import Table, transition


class AlertState(StrEnum):
    INACTIVE = "inactive"
    PENDING = "pending"
    FIRING = "firing"
    RESOLVED = "resolved"
    GONE = "gone"


ALERT_TABLE: Table[AlertState] = {
    AlertState.INACTIVE: frozenset({AlertState.PENDING}),
    AlertState.PENDING: frozenset({AlertState.INACTIVE, AlertState.FIRING, AlertState.GONE}),
    AlertState.FIRING: frozenset({AlertState.RESOLVED, AlertState.GONE}),
    AlertState.RESOLVED: frozenset({AlertState.PENDING}),
    AlertState.GONE: frozenset({AlertState.PENDING}),  # a rule that was taken away and came back
}
OPEN = frozenset({AlertState.PENDING, AlertState.FIRING})


class AbortState(StrEnum):
    """Wanted from the moment of firing until the proxy has answered, even if the alert resolves in between."""

    WANTED = "wanted"
    CONFIRMED = "confirmed"
    OBSOLETE = "obsolete"  # the release's rollout was not the current one any more


ABORT_TABLE: Table[AbortState] = {
    AbortState.WANTED: frozenset({AbortState.CONFIRMED, AbortState.OBSOLETE}),
    AbortState.CONFIRMED: frozenset({AbortState.WANTED}),  # the alert fired anew
    AbortState.OBSOLETE: frozenset({AbortState.WANTED}),
}


class Alert(View):
    """`since` is when it entered its state; `active_at` when what it is about began."""

    id: str
    rule: str
    app: str
    release: str
    state: AlertState
    reason: str
    since: datetime
    active_at: datetime
    abort: AbortState | None = None
    abort_reason: str = ""
    abort_at: datetime | None = None


def new_alert(rule: Rule, app: str, release: str, now: datetime) -> Alert:
    return Alert(
        id=f"{rule.name}:{release}",
        rule=rule.name,
        app=app,
        release=release,
        state=AlertState.INACTIVE,
        reason="",
        since=now,
        active_at=now,
    )


def next_alert(alert: Alert, breaching: bool | None, rule: Rule, now: datetime, reason: str) -> Alert:
    """The alert after one more look. No data (None) neither fires nor resolves: all stays as it was.

    It fires when it has been pending for `for_s` seconds, at once if that is 0. (After Prometheus, rules/alerting.go.)
    """
    if breaching is None:
        return alert
    if not breaching:
        calmer = {AlertState.PENDING: AlertState.INACTIVE, AlertState.FIRING: AlertState.RESOLVED}
        return _moved(alert, calmer[alert.state], now, reason) if alert.state in calmer else alert
    if alert.state not in OPEN:
        alert = _moved(alert, AlertState.PENDING, now, reason).model_copy(update={"active_at": now})
    if alert.state == AlertState.PENDING and (now - alert.active_at).total_seconds() >= rule.for_s:
        alert = _moved(alert, AlertState.FIRING, now, reason)
        return want_abort(alert, now) if rule.aborts else alert
    return alert


def end(alert: Alert, now: datetime, reason: str) -> Alert:
    """What an open alert was about is no more."""
    return _moved(alert, AlertState.GONE, now, reason)


def want_abort(alert: Alert, now: datetime) -> Alert:
    return _with_abort(alert, AbortState.WANTED, now, alert.reason)


def settle_abort(alert: Alert, state: AbortState, now: datetime, reason: str) -> Alert:
    """The proxy has answered: confirmed or obsolete."""
    return _with_abort(alert, state, now, reason)


def _with_abort(alert: Alert, state: AbortState, now: datetime, reason: str) -> Alert:
    if alert.abort is not None and alert.abort != state:
        transition(ABORT_TABLE, alert.abort, state)
    return alert.model_copy(update={"abort": state, "abort_reason": reason, "abort_at": now})


def _moved(alert: Alert, state: AlertState, now: datetime, reason: str) -> Alert:
    update = {"state": transition(ALERT_TABLE, alert.state, state), "since": now, "reason": reason}
    return alert.model_copy(update=update)
