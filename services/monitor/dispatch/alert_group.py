"""Groups the alerts of one release into messages: decides when a message is sent, and with which alerts. Pure. It
follows Alertmanager: dispatch/dispatch.go (group_wait, group_interval) and notify/notify.go (DedupStage.needsUpdate).
"""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from pydantic import Field

from services.monitor.notify.message import Fact, Message, compose
from services.monitor.notify.release_context import environment_of, extra, release_of
from services.monitor.notify.subject import figure
from shared.models import Event, View

GROUP_WAIT = timedelta(seconds=5)  # Alertmanager's 30 s is too slow for a first mail
GROUP_INTERVAL = timedelta(minutes=5)
REPEAT_INTERVAL = timedelta(hours=4)


class GroupedAlert(View):
    """Describes an alert by its last event, which said that it fires, is resolved or is gone (`firing` is false in the
    last two cases). `at` is the time of that event, `reason` its reason; `value` and `threshold` are its figures as
    text, empty if it has none.
    """

    id: str
    rule: str
    firing: bool
    at: datetime
    reason: str
    value: str = ""
    threshold: str = ""
    gone: bool = False
    """True if it ended because its release, rollout or rule has ended."""


class AlertGroup(View):
    """Holds the firing alerts of one release, or of the platform, and those that have ended since the last flush. At a
    flush, messages about both are made.
    """

    app: str
    environment: str
    release: str
    look_at: datetime = Field(description="Time of the next flush.")
    alerts: dict[str, GroupedAlert] = Field({})
    told: list[str] = Field([], description="Ids of the firing alerts that the last messages reported to people.")
    told_at: datetime | None = Field(None, description="Time of the last notification.")
    muted: list[str] = Field([], description="Ids of the firing alerts that were recorded as silenced.")
    notify: list[str] = Field([], description="Addresses in the manifest to which the last message went.")

    @property
    def name(self) -> str:
        return f"{self.app}:{self.environment}:{self.release}"


@dataclass(frozen=True)
class GroupUpdate:
    """Holds the alerts of a group that one message reports: those that fire, and those that have resolved since the
    last message.
    """

    id: str
    """Id of the update. It is the same if the flush is repeated because its outcome could not be stored."""
    firing: list[GroupedAlert]
    resolved: list[GroupedAlert]
    """Alerts that have resolved, and those that ended because their release, rollout or rule has ended."""
    muted: bool = False
    """True if the alerts are silenced, so that the message is recorded but not sent."""

    @property
    def event(self) -> str:
        return "alert.firing" if self.firing else "alert.resolved"


def group_name(event: Event) -> str:
    return f"{event.app}:{environment_of(event)}:{release_of(event)}"


def regrouped(group: AlertGroup | None, event: Event, now: datetime) -> AlertGroup | None:
    """Returns the group after an `alert.*` event; None if it has no alerts left. An alert that ends before people were
    notified of it is removed without a message.
    """
    if event.type == "alert.firing":
        group = group or AlertGroup(
            app=event.app, environment=environment_of(event), release=release_of(event), look_at=now + GROUP_WAIT
        )
        return _with_alerts(group, {**group.alerts, event.id: _grouped(event, firing=True)})
    if group is None or event.id not in group.alerts or event.type not in ("alert.resolved", "alert.gone"):
        return group
    if event.id in group.told:
        return _with_alerts(group, {**group.alerts, event.id: _grouped(event, firing=False)})
    return _with_alerts(group, {name: alert for name, alert in group.alerts.items() if name != event.id})


def flushed(
    group: AlertGroup, muted_rules: Collection[str], now: datetime
) -> tuple[AlertGroup | None, list[GroupUpdate]]:
    """Returns the group after a due flush (None if it has no alerts left) and the updates to send. An alert that fires
    because of a rule in `muted_rules` is recorded as silenced. If it still fires after the silence, people are notified
    of it then.
    """
    firing = [alert for alert in group.alerts.values() if alert.firing and alert.rule not in muted_rules]
    muted = [alert for alert in group.alerts.values() if alert.firing and alert.rule in muted_rules]
    resolved = [alert for alert in group.alerts.values() if not alert.firing]
    notified_resolved = [alert for alert in resolved if alert.rule not in muted_rules]
    is_news = bool(notified_resolved) or any(alert.id not in group.told for alert in firing)
    is_repeat = bool(firing) and group.told_at is not None and abs(now - group.told_at) >= REPEAT_INTERVAL
    updates = []
    if is_news or is_repeat:
        updates.append(GroupUpdate(_id(group, "told"), firing, notified_resolved))
    if newly := [alert for alert in muted if alert.id not in group.muted]:
        updates.append(GroupUpdate(_id(group, "muted"), newly, [], muted=True))
    left = group.model_copy(
        update={
            "look_at": now + GROUP_INTERVAL,
            "told": [alert.id for alert in firing] + [alert.id for alert in muted if alert.id in group.told],
            "told_at": now if is_news or is_repeat else group.told_at,
            "muted": [alert.id for alert in muted],
        }
    )
    return _with_alerts(left, {name: alert for name, alert in group.alerts.items() if alert.firing}), updates


def update_message(group: AlertGroup, update: GroupUpdate, commit: str, link: str) -> Message:
    """Returns the message that reports `update`. `commit` is the release's commit, 40 hex digits, or empty if
    unknown.
    """
    target = f"{group.app} {group.environment}: {group.release}" if group.app else "the platform:"
    well, gone = ([alert for alert in update.resolved if alert.gone is gone] for gone in (False, True))
    parts = [
        f"{word}: {', '.join(sorted({alert.rule for alert in alerts}))}"
        for word, alerts in (("firing", update.firing), ("resolved", well), ("over", gone))
        if alerts
    ]
    facts: list[Fact] = [("app", group.app), ("environment", group.environment), ("release", group.release)]
    texts = []
    for alert in [*update.firing, *update.resolved]:
        state = "fires" if alert.firing else "is over" if alert.gone else "is resolved"
        measured = f" (measured {alert.value}, limit {alert.threshold})" if alert.value and alert.threshold else ""
        texts.append(f"{alert.rule} {state} since {alert.at:%H:%M:%S} UTC: {alert.reason}{measured}")
    subject = f"{target} {'; '.join(parts)}"
    if len(update.firing) == 1 and not update.resolved:
        subject += f": {update.firing[0].reason}"
    return compose(subject, texts, [*facts, ("commit", commit)], link)


def due(groups: Mapping[str, AlertGroup], now: datetime) -> list[AlertGroup]:
    """Returns the groups to flush: those whose time has come, and those whose time lies further ahead than it ever
    does, because the clock was set back.
    """
    return [group for group in groups.values() if not timedelta() < group.look_at - now <= GROUP_INTERVAL]


def _with_alerts(group: AlertGroup, alerts: dict[str, GroupedAlert]) -> AlertGroup | None:
    return group.model_copy(update={"alerts": alerts}) if alerts else None


def _grouped(event: Event, firing: bool) -> GroupedAlert:
    fields = event.model_extra or {}
    return GroupedAlert(
        id=event.id,
        rule=extra(event, "rule") or event.id.partition(":")[0],
        firing=firing,
        at=event.at,
        reason=event.reason,
        value=figure(fields.get("value")),
        threshold=figure(fields.get("threshold")),
        gone=event.type == "alert.gone",
    )


def _id(group: AlertGroup, kind: str) -> str:
    return hashlib.sha256(f"{group.name} {group.look_at.isoformat()} {kind}".encode()).hexdigest()
