"""Defines a delivery: one message to one recipient, with its states and retries. Pure. A delivery is stored before its
event is acknowledged, and the state `sending` is stored before the message is sent, so that no message is lost. If the
process dies while it sends, the next one finds `sending` and sends the message again. The message contains the
delivery's id, so that a person can recognise the duplicate; a program can by the header X-Slipway-Delivery.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from pydantic import Field

from services.monitor.notify.event_message import Notification
from services.monitor.notify.message import Message
from services.monitor.notify.notifier import Address
from shared.models import View
from shared.runtime.backoff import backoff_s
from shared.state import Table, transition


class MessageDeliveryState(StrEnum):
    QUEUED = "queued"
    SENDING = "sending"
    DELIVERED = "delivered"
    FAILED = "failed"
    SILENCED = "silenced"


S = MessageDeliveryState
DELIVERY_TABLE: Table[MessageDeliveryState] = {
    S.QUEUED: frozenset({S.SENDING, S.FAILED, S.SILENCED}),
    S.SENDING: frozenset({S.DELIVERED, S.QUEUED, S.FAILED}),
    S.DELIVERED: frozenset(),
    S.FAILED: frozenset(),
    S.SILENCED: frozenset(),
}
ENDED = frozenset(state for state, following in DELIVERY_TABLE.items() if not following)


@dataclass(frozen=True)
class Patience:
    """Holds the back-off between the tries of a delivery, in seconds."""

    first_s: float = 5
    """Wait after the first failure; it doubles with each further one."""
    longest_s: float = 300
    """Longest wait between two tries."""
    give_up_s: float = 86400
    """Age of the delivery from which on a failed try is the last one."""
    least_tries: int = 10
    """Number of tries that are made at any age, as the clock may have been set forward."""


class DeliveryView(View):
    """Response item of `GET /deliveries`: one message to one recipient, without secrets, and whether it has been
    sent.
    """

    id: str
    event: str = Field(description="Type of the event, for example `build.failure`.")
    app: str
    environment: str
    subject: str
    recipient: str = Field(description="The address without its secrets.")
    state: MessageDeliveryState
    reason: str = Field(description="Reason for the state; while queued again, the last error.")
    attempts: int = 0
    created_at: datetime
    since: datetime = Field(description="Time at which it entered its state.")
    due_at: datetime | None = Field(None, description="Time of the next try; null once the delivery has ended.")


class MessageDelivery(DeliveryView):
    """Holds a delivery as it is stored. `server` is the name of the server that gets the message; by it the number of
    sends at the same time is limited. URL and message are deleted when the delivery has ended, since the URL contains
    secrets.
    """

    server: str = ""
    url: str | None = None
    message: Message | None = None

    @property
    def ended(self) -> bool:
        return self.state in ENDED


def delivery_id(cause: str, address: Address) -> str:
    """Returns the idempotency key (16 hex digits) of a message to a recipient. `cause` is the id of the stream entry or
    GroupUpdate that the message reports.
    """
    return hashlib.sha256(f"{cause} {address.key}".encode()).hexdigest()[:16]


def new_delivery(cause: str, notification: Notification, address: Address, now: datetime) -> MessageDelivery:
    """Returns a queued delivery of the notification to the address; a failed one if nothing can be sent there. `cause`
    is the id of the stream entry or GroupUpdate that the message reports.
    """
    delivery = MessageDelivery(
        id=delivery_id(cause, address),
        event=notification.event,
        app=notification.app,
        environment=notification.environment,
        subject=notification.message.subject,
        recipient=address.shown,
        state=S.QUEUED,
        reason="",
        created_at=now,
        since=now,
        due_at=now,
        server=address.server,
        url=address.url,
        message=notification.message,
    )
    return _moved(delivery, S.FAILED, address.problem, now) if address.problem else delivery


def silenced(delivery: MessageDelivery, reason: str, now: datetime) -> MessageDelivery:
    """Returns the delivery in the state `silenced` (recorded, not sent). One that has ended is returned unchanged."""
    return delivery if delivery.ended else _moved(delivery, S.SILENCED, reason, now)


def begun(delivery: MessageDelivery, now: datetime) -> MessageDelivery:
    """Returns the delivery in the state `sending`, with one more attempt. That includes a delivery that a dead process
    left in `sending`.
    """
    if delivery.state is S.SENDING:
        delivery = _moved(delivery, S.QUEUED, "the monitor ended while it was sent", now)
    sending = _moved(delivery, S.SENDING, delivery.reason, now)
    return sending.model_copy(update={"attempts": delivery.attempts + 1})


def tried(delivery: MessageDelivery, error: str | None, patience: Patience, now: datetime) -> MessageDelivery:
    """Returns the delivery after a try. It is delivered if `error` is None; otherwise it is queued again with back-off
    or, if it is too old, failed.
    """
    if error is None:
        return _moved(delivery, S.DELIVERED, "", now)
    is_old = (now - delivery.created_at).total_seconds() >= patience.give_up_s
    if is_old and delivery.attempts >= patience.least_tries:
        return _moved(delivery, S.FAILED, f"given up after {delivery.attempts} tries: {error}", now)
    wait_s = backoff_s(delivery.attempts, first_s=patience.first_s, longest_s=patience.longest_s)
    waiting = _moved(delivery, S.QUEUED, error, now)
    return waiting.model_copy(update={"due_at": now + timedelta(seconds=wait_s)})


def _moved(delivery: MessageDelivery, state: MessageDeliveryState, reason: str, now: datetime) -> MessageDelivery:
    update = {"state": transition(DELIVERY_TABLE, delivery.state, state), "reason": reason, "since": now}
    if state in ENDED:
        update |= {"due_at": None, "url": None, "message": None}
    return delivery.model_copy(update=update)
