"""Assembles the parts that notify people, for `main.py`."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from services.monitor.dispatch.delivery import Patience
from services.monitor.dispatch.dispatcher import Dispatcher
from services.monitor.dispatch.outbox import Outbox
from services.monitor.dispatch.outbox_store import OutboxStore
from services.monitor.notify.notifier import Notifier
from services.monitor.notify.notifier_store import NotifierStore
from services.monitor.notify.recipients import Recipients
from services.monitor.notify.subject import Links
from shared.config import SharedSettings
from shared.events import EventFollower
from shared.runtime.loops import Loop

SEND_EVERY_S = 5.0  # at the latest: a new delivery, the end of a send and a due time wake the loop


@dataclass(frozen=True)
class Notifications:
    """Holds the parts that notify people, and the loops that run them."""

    recipients: Recipients
    dispatcher: Dispatcher
    outbox: Outbox
    """Sends deliveries. As a context manager it must be entered before the loops start, and left after they have
    ended.
    """
    loops: list[Loop]


def notifications(
    store: OutboxStore,
    notifier_store: NotifierStore,
    notifier: Notifier,
    settings: SharedSettings,
    events: EventFollower,
    now: Callable[[], datetime],
    patience: Patience | None = None,
) -> Notifications:
    """Returns the parts that notify people. `events` must read in the consumer group `notifications`."""
    recipients = Recipients(notifier_store, notifier, settings.notify.split())
    outside = settings.outside_url
    links = Links(build=outside("build"), proxy=outside("proxy"), monitor=outside("monitor"))
    due = asyncio.Event()
    dispatcher = Dispatcher(events, store, notifier_store, recipients, links, now, due.set)
    outbox = Outbox(store, notifier, now, due.set, patience=patience)
    loops = [
        Loop("telling", dispatcher.step, every_s=0.0),
        Loop("sending", outbox.step, every_s=SEND_EVERY_S, woken=due),
    ]
    return Notifications(recipients, dispatcher, outbox, loops)
