"""Turns events into deliveries: groups alerts, finds recipients, and applies silences."""

import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from services.monitor.alerts.platform_problem import REDIS_ALERT
from services.monitor.dispatch.alert_group import AlertGroup, due, flushed, group_name, regrouped, update_message
from services.monitor.dispatch.delivery import MessageDelivery, new_delivery, silenced
from services.monitor.dispatch.outbox_store import OutboxStore, SendOutcome
from services.monitor.notify.event_message import Notification, notification_of, plain_notification
from services.monitor.notify.notifier_store import NotifierStore
from services.monitor.notify.recipients import Recipients
from services.monitor.notify.release_context import ReleaseContexts, addresses, addresses_of, commit_of, learned
from services.monitor.notify.silence import Silence, muting
from services.monitor.notify.subject import Links
from shared.events import IDLE_BLOCK_MS, UNUSABLE, EventFollower
from shared.models import Event

log = logging.getLogger(__name__)

FIRST_READS_BACK = timedelta(hours=1)
GROUPS_BLOCK_MS = 1000  # while a group of alerts waits, since it may become due


class Dispatcher:
    """Turns events into stored deliveries. It does so in one loop, so that alert groups have only one writer. All state
    is in the store, so a restart loses nothing. `wake` is called when there are deliveries to send.
    """

    def __init__(
        self,
        events: EventFollower,
        store: OutboxStore,
        silences: NotifierStore,
        recipients: Recipients,
        links: Links,
        now: Callable[[], datetime],
        wake: Callable[[], None],
    ) -> None:
        self._events = events
        self._store = store
        self._silences = silences
        self._recipients = recipients
        self._links = links
        self._now = now
        self._wake = wake
        self._prepared = False
        self._may_have_groups = True

    async def step(self, block_ms: int | None = None) -> None:
        """Handles the next events, waiting up to `block_ms` milliseconds for them (by default 1 s if there are alert
        groups, else 3 s), and flushes the alert groups that are due. Raises RedisError; the next call then reads the
        event again that was being handled.
        """
        if not self._prepared:
            await self._store.prepare(self._now() - FIRST_READS_BACK)
            self._prepared = True
        if block_ms is None:
            block_ms = GROUPS_BLOCK_MS if self._may_have_groups else IDLE_BLOCK_MS
        for entry_id, event in await self._events.read(block_ms):
            self._may_have_groups = True
            try:
                await self._settle(await self._outcome(entry_id, event), entry_id)
            except UNUSABLE as error:
                await self._events.skip(entry_id, error)
        if self._may_have_groups:
            self._may_have_groups = await self._flush_groups()

    async def _settle(self, outcome: SendOutcome, entry_id: str | None) -> None:
        await self._store.settle(outcome, entry_id)
        for delivery in outcome.deliveries:
            log.info("delivery %s of %s to %s: %s", delivery.id, delivery.event, delivery.recipient, delivery.state)
        if outcome.deliveries:
            self._wake()

    async def _outcome(self, entry_id: str, event: Event) -> SendOutcome:
        contexts = await self._store.contexts(event.app)
        changed = learned(contexts, event)
        if event.type.startswith("alert."):
            if event.id == REDIS_ALERT:  # which was told when it could not be stored, see DirectMessages
                return SendOutcome()
            name = group_name(event)
            before = (await self._store.groups()).get(name)
            after = regrouped(before, event, self._now())
            return SendOutcome(groups={} if after == before else {name: after}, contexts=changed)
        notification = self._compose(event, {**contexts, **changed})
        if notification is None:
            return SendOutcome(contexts=changed)
        silence = muting(await self._silences.silences(), notification.app, notification.environment, None, self._now())
        manifest = addresses({**contexts, **changed}, event)
        return SendOutcome(
            deliveries=await self._deliveries(entry_id, notification, manifest, silence), contexts=changed
        )

    def _compose(self, event: Event, contexts: ReleaseContexts) -> Notification | None:
        try:
            return notification_of(event, contexts, self._links)
        except Exception:  # an event that cannot be handled must not hold up all later ones
            log.exception("%s %s could not be put into words", event.type, event.id)
            return plain_notification(event, self._links)

    async def _flush_groups(self) -> bool:
        """Flushes the groups that are due; returns False if there are no groups at all."""
        groups = await self._store.groups()
        for group in due(groups, self._now()):
            await self._flush(group)
        return bool(groups)

    async def _flush(self, group: AlertGroup) -> None:
        now, contexts = self._now(), await self._store.contexts(group.app)
        silences = await self._silences.silences()
        rules = {alert.rule for alert in group.alerts.values()}
        muted = {
            rule: silence for rule in rules if (silence := muting(silences, group.app, group.environment, rule, now))
        }
        # Who was told that an alert fires is told its end, too, after the app was removed.
        manifest = addresses_of(contexts, group.app, group.environment) or group.notify
        after, updates = flushed(group.model_copy(update={"notify": manifest}), muted.keys(), now)
        outcome = SendOutcome(groups={group.name: after})
        commit = commit_of(contexts, group.app, group.environment, group.release)
        for update in updates:
            notification = Notification(
                event=update.event,
                app=group.app,
                environment=group.environment,
                message=update_message(group, update, commit, f"{self._links.monitor}/alerts"),
            )
            silence = muted[update.firing[0].rule] if update.muted else None
            outcome.deliveries += await self._deliveries(update.id, notification, manifest, silence)
        await self._settle(outcome, None)

    async def _deliveries(
        self, cause: str, notification: Notification, manifest: Sequence[str], silence: Silence | None
    ) -> list[MessageDelivery]:
        now = self._now()
        addresses = await self._recipients.addresses(notification.event, manifest)
        deliveries = [new_delivery(cause, notification, address, now) for address in addresses]
        if silence is None:
            return deliveries
        return [silenced(delivery, f"silence {silence.id}: {silence.reason}", now) for delivery in deliveries]
