"""A delivery: one message on its way to one recipient. Its states, and when it is tried again. Pure.

Nothing is lost: a delivery is stored before its event is confirmed, and `sending` before it is sent. A process that
dies while it sends leaves `sending` behind, and nobody knows whether the message went out: it is sent again. The
message bears the delivery's id, so that a person (or a program, by the header X-Slipway-Delivery) can see the double.
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
    """Seconds: the first wait after a failure, which doubles up to the longest; given up after so long."""

    first_s: float = 5
    longest_s: float = 300
    give_up_s: float = 86400


class DeliveryView(View):
    """`GET /deliveries`. `since`: when it came into its state; `reason`: why, the last error after a failed try."""

    id: str
    event: str = Field(description="Type of the event, `build.failure`.")
    app: str
    environment: str
    subject: str
    recipient: str = Field(description="Without its secrets.")
    state: MessageDeliveryState
    reason: str
    attempts: int = 0
    created_at: datetime
    since: datetime
    due_at: datetime | None = Field(None, description="When it is tried next; null if it has ended.")


class MessageDelivery(DeliveryView):
    """What is kept to send it is let go when it has ended: the URL holds secrets."""

    server: str = ""
    url: str | None = None
    message: Message | None = None

    @property
    def ended(self) -> bool:
        return self.state in ENDED


def delivery_id(cause: str, address: Address) -> str:
    """The same for the same cause (a stream entry, a bulletin) and recipient, however often it is made."""
    return hashlib.sha256(f"{cause} {address.key}".encode()).hexdigest()[:16]


def new_delivery(cause: str, told: Notification, address: Address, now: datetime) -> MessageDelivery:
    """Queued; failed at once if the address is none that apprise knows."""
    delivery = MessageDelivery(
        id=delivery_id(cause, address),
        event=told.event,
        app=told.app,
        environment=told.environment,
        subject=told.message.subject,
        recipient=address.shown,
        state=S.QUEUED,
        reason="",
        created_at=now,
        since=now,
        due_at=now,
        server=address.server,
        url=address.url,
        message=told.message,
    )
    return _moved(delivery, S.FAILED, address.problem, now) if address.problem else delivery


def silenced(delivery: MessageDelivery, reason: str, now: datetime) -> MessageDelivery:
    """Recorded, not sent. One that has failed already stays so."""
    return delivery if delivery.ended else _moved(delivery, S.SILENCED, reason, now)


def begun(delivery: MessageDelivery, now: datetime) -> MessageDelivery:
    """One more try. One that is `sending` was left so by a process that ended: it may have gone out."""
    if delivery.state is S.SENDING:
        delivery = _moved(delivery, S.QUEUED, "the monitor ended while it was sent", now)
    sending = _moved(delivery, S.SENDING, delivery.reason, now)
    return sending.model_copy(update={"attempts": delivery.attempts + 1})


def tried(delivery: MessageDelivery, error: str | None, patience: Patience, now: datetime) -> MessageDelivery:
    """After a try: delivered, or to be tried again later, or given up. `error`: why it failed, without secrets."""
    if error is None:
        return _moved(delivery, S.DELIVERED, "", now)
    if (now - delivery.created_at).total_seconds() >= patience.give_up_s:
        return _moved(delivery, S.FAILED, f"given up after {delivery.attempts} tries: {error}", now)
    wait_s = min(patience.longest_s, patience.first_s * 2 ** min(delivery.attempts - 1, 30))
    waiting = _moved(delivery, S.QUEUED, error, now)
    return waiting.model_copy(update={"due_at": now + timedelta(seconds=wait_s)})


def _moved(delivery: MessageDelivery, state: MessageDeliveryState, reason: str, now: datetime) -> MessageDelivery:
    update = {"state": transition(DELIVERY_TABLE, delivery.state, state), "reason": reason, "since": now}
    if state in ENDED:
        update |= {"due_at": None, "url": None, "message": None}
    return delivery.model_copy(update=update)
