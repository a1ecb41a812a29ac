"""Sends the two messages that cannot be stored first: that Redis does not answer, and that it answers again."""

import asyncio
import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from services.monitor.alerts.alert import Alert, AlertState
from services.monitor.alerts.alert_state import ActiveAlerts
from services.monitor.alerts.platform_problem import REDIS_ALERT
from services.monitor.dispatch.delivery import Patience
from services.monitor.notify.message import Message, compose
from services.monitor.notify.notifier import Address, Notifier, NotSent
from services.monitor.notify.recipients import Recipients
from shared.runtime.backoff import backoff_s

log = logging.getLogger(__name__)

TOLD = frozenset({AlertState.FIRING, AlertState.RESOLVED})
LEARN_EVERY = timedelta(minutes=1)


@dataclass
class _Sending:
    address: Address
    message: Message
    id: str
    due_at: datetime
    attempts: int = 0


@dataclass
class DirectMessages:
    """Sends each recipient one message when Redis does not answer, and one when it answers again. Which messages were
    sent is known only in memory, so a monitor that restarts meanwhile may send one again. All other messages are stored
    as deliveries (`outbox.py`).
    """

    alerts: ActiveAlerts
    recipients: Recipients
    notifier: Notifier
    link: str
    now: Callable[[], datetime]
    patience: Patience = field(default_factory=Patience)
    _told: tuple[AlertState, datetime] | None = None
    _begun_at: datetime | None = None
    _sendings: list[_Sending] = field(default_factory=list)
    _learned_at: datetime | None = None

    async def step(self) -> float | None:
        """Sends the messages that are due. Returns the seconds until the next try of a message that failed; None if
        there is no such message.
        """
        now = self.now()
        self._begun_at = self._begun_at or now
        alert = self.alerts.get(REDIS_ALERT)
        if alert is not None and alert.state in TOLD and (alert.state, alert.since) != self._told:
            fires = alert.state is AlertState.FIRING
            if alert.since >= self._begun_at and (fires or self._told is not None):
                await self._tell(alert, now)
            self._told = (alert.state, alert.since)  # what was stored, an earlier process has told
        elif self._learned_at is None or now - self._learned_at >= LEARN_EVERY:
            self._learned_at = now
            await self.recipients.last_addresses("alert.firing")
        return await self._send(now)

    async def _tell(self, alert: Alert, now: datetime) -> None:
        message = self._message(alert)
        event = f"alert.{alert.state}"
        cause = f"{alert.id} {alert.state} {alert.since.isoformat()}"
        self._sendings = [
            _Sending(address, message, hashlib.sha256(f"{cause} {address.key}".encode()).hexdigest()[:16], now)
            for address in await self.recipients.last_addresses(event)
            if not address.problem
        ]

    async def _send(self, now: datetime) -> float | None:
        due = [each for each in self._sendings if each.due_at <= now]
        await asyncio.gather(*(self._try(each, now) for each in due))
        return min(((each.due_at - now).total_seconds() for each in self._sendings), default=None)

    async def _try(self, sending: "_Sending", now: datetime) -> None:
        sending.attempts += 1
        try:
            await self.notifier.send(sending.address.url, sending.message, sending.id)
        except NotSent as error:
            log.warning("the message to %s is sent again later: %s", sending.address.shown, error)
            wait_s = backoff_s(sending.attempts, first_s=self.patience.first_s, longest_s=self.patience.longest_s)
            sending.due_at = now + timedelta(seconds=wait_s)
        else:
            self._sendings.remove(sending)
            log.info("%s was told to %s", sending.message.subject, sending.address.shown)

    def _message(self, alert: Alert) -> Message:
        if alert.state is AlertState.RESOLVED:
            text = "Redis answers again. What was not stored meanwhile is stored and told now."
            return compose("the platform: resolved: redis", [text], [], self.link)
        others = [each for each in self.alerts.open_alerts() if each.state is AlertState.FIRING and each.id != alert.id]
        return compose(
            f"the platform: firing: redis: {alert.reason}",
            [
                f"redis fires since {alert.since:%H:%M:%S} UTC: {alert.reason}",
                "Visitors are served. Until Redis answers, nothing is built, released or scaled, and no other message "
                "is sent.",
                *(f"{each.rule} fires, too, {each.app or 'the platform'}: {each.reason}" for each in others),
            ],
            [],
            self.link,
        )
