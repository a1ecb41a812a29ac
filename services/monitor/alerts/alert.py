"""Defines an alert: one rule about one release, with the states of Prometheus, and the state of the abort that it
requests.
"""

from datetime import datetime
from enum import StrEnum

from pydantic import Field, JsonValue

from services.monitor.rules.rule import Metric, Reading, Rule
from shared.models import Environment, View
from shared.proxy_models import RolloutView
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
    AlertState.GONE: frozenset({AlertState.PENDING}),  # a rule that was removed and came back
}
OPEN = frozenset({AlertState.PENDING, AlertState.FIRING})


class AbortState(StrEnum):
    """Names the states of the abort that an alert requests. It is `wanted` from the time when the alert fires until the
    proxy answers; then `confirmed` (the proxy aborted the rollout) or `obsolete` (the rollout of the release was no
    longer the current one).
    """

    WANTED = "wanted"
    CONFIRMED = "confirmed"
    OBSOLETE = "obsolete"  # the release's rollout is no longer the current one


ABORT_TABLE: Table[AbortState] = {
    AbortState.WANTED: frozenset({AbortState.CONFIRMED, AbortState.OBSOLETE}),
    AbortState.CONFIRMED: frozenset({AbortState.WANTED}),  # the alert fired again
    AbortState.OBSOLETE: frozenset({AbortState.WANTED}),
}


class Alert(View):
    """Describes an alert of one rule about one release, or about a problem of the platform. In the latter case, `rule`
    names the problem, `app` and `release` are empty, and `environment` is null. `metric`, `value`, `threshold` and
    `seen` belong to the measurement because of which the alert became pending or fired. `abort` is null if the alert
    requests no abort; `abort_reason` and `abort_at` are the reason and time of the state in `abort`.
    """

    id: str
    rule: str
    app: str
    environment: Environment | None = Environment.CANARY
    release: str
    service: str = Field("", description="The service that an alert about the platform concerns; empty: all.")
    state: AlertState
    reason: str
    since: datetime = Field(description="Time at which it entered its state.")
    active_at: datetime = Field(description="Time at which the breach began.")
    well_since: datetime | None = Field(None, description="Start of the readings without a breach, while it fires.")
    metric: Metric | None = None
    value: float | None = None
    threshold: float | None = None
    seen: dict[str, JsonValue] = Field({}, description="The figures that `value` was computed from.")
    aborts: bool = Field(False, description="True: it requests the end of a canary's rollout; never of production.")
    abort: AbortState | None = None
    abort_reason: str = ""
    abort_at: datetime | None = None

    def evidence(self) -> dict[str, JsonValue]:
        """Returns the evidence that the proxy stores with an aborted rollout: the keys `alert` (its id), `rule`,
        `metric`, `value`, `threshold`, `words` (the reason), `since` (when the breach began) and `seen`.
        """
        return {
            "alert": self.id,
            "rule": self.rule,
            "metric": self.metric,
            "value": self.value,
            "threshold": self.threshold,
            "words": self.abort_reason or self.reason,
            "since": self.active_at.isoformat(),
            "seen": self.seen,
        }


def alert_id(rule: Rule, release: str) -> str:
    return f"{rule.name}:{release}"


def new_alert(rule: Rule, app: str, environment: Environment, release: str, now: datetime) -> Alert:
    return Alert(
        id=alert_id(rule, release),
        rule=rule.name,
        app=app,
        environment=environment,
        release=release,
        state=AlertState.INACTIVE,
        reason="",
        since=now,
        active_at=now,
    )


def new_platform_alert(name: str, rule: str, service: str, now: datetime) -> Alert:
    """Returns an inactive alert about a problem of the platform. `name` is the alert's id, `rule` the kind of problem
    that it is.
    """
    about = {"rule": rule, "app": "", "environment": None, "release": "", "service": service}
    return Alert(id=name, state=AlertState.INACTIVE, reason="", since=now, active_at=now, **about)


def next_alert(alert: Alert, breaching: bool | None, rule: Rule, now: datetime, reading: Reading) -> Alert:
    """Returns the alert after one more reading (the value of the rule's metric). `breaching` says whether the reading
    breaches the rule; if it is None (no data), the alert stays unchanged. A pending alert fires once the breach has
    lasted `rule.for_s` seconds. A firing alert resolves after `rule.keep_firing_for_s` seconds without a breach.
    (Prometheus does the same, in rules/alerting.go.)
    """
    if breaching is None:
        return alert
    if not breaching:
        return _calmer(alert, rule, now, reading)
    if alert.state not in OPEN:
        alert = _breached(alert, AlertState.PENDING, rule, now, reading).model_copy(update={"active_at": now})
    if alert.state == AlertState.PENDING and (now - alert.active_at).total_seconds() >= rule.for_s:
        alert = _breached(alert, AlertState.FIRING, rule, now, reading)
        return want_abort(alert, now) if alert.aborts else alert
    return alert if alert.well_since is None else alert.model_copy(update={"well_since": None})


def _calmer(alert: Alert, rule: Rule, now: datetime, reading: Reading) -> Alert:
    if alert.state == AlertState.PENDING:
        return _moved(alert, AlertState.INACTIVE, now, reading.description)
    if alert.state != AlertState.FIRING:
        return alert
    well_since = alert.well_since or now
    if (now - well_since).total_seconds() >= rule.keep_firing_for_s:
        return _moved(alert, AlertState.RESOLVED, now, reading.description)
    return alert.model_copy(update={"well_since": well_since})


def end(alert: Alert, now: datetime, reason: str) -> Alert:
    """Returns the alert, which is pending or firing, in the state `gone`. `reason` says what has ended: the release,
    the rollout or the rule.
    """
    return _moved(alert, AlertState.GONE, now, reason)


def want_abort(alert: Alert, now: datetime) -> Alert:
    return _with_abort(alert, AbortState.WANTED, now, alert.reason)


def settle_abort(alert: Alert, state: AbortState, now: datetime, reason: str) -> Alert:
    """Returns the alert with the proxy's answer to its abort: `state` is `confirmed` or `obsolete`."""
    return _with_abort(alert, state, now, reason)


def _with_abort(alert: Alert, state: AbortState, now: datetime, reason: str) -> Alert:
    if alert.abort is not None and alert.abort != state:
        transition(ABORT_TABLE, alert.abort, state)
    return alert.model_copy(update={"abort": state, "abort_reason": reason, "abort_at": now})


def _breached(alert: Alert, state: AlertState, rule: Rule, now: datetime, reading: Reading) -> Alert:
    evidence = {
        "metric": rule.metric,
        "value": reading.value,
        "threshold": rule.threshold,
        "seen": dict(reading.evidence),
        "aborts": rule.aborts and alert.environment == Environment.CANARY,
    }
    return _moved(alert, state, now, reading.description).model_copy(update=evidence)


def _moved(alert: Alert, state: AlertState, now: datetime, reason: str) -> Alert:
    update = {"state": transition(ALERT_TABLE, alert.state, state), "since": now, "reason": reason, "well_since": None}
    return alert.model_copy(update=update)


def ending(rollout: RolloutView) -> str:
    """Returns the reason to store when the alerts about a canary are ended because its rollout is no longer active."""
    if rollout.release is None:
        return "there is no rollout any more"
    why = f": {rollout.reason}" if rollout.reason else ""
    return f"the rollout of {rollout.release} is {rollout.state}{why}"
