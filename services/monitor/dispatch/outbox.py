"""Sends due deliveries, a few at a time, and retries them."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from types import TracebackType
from typing import Self

from services.monitor.dispatch.delivery import MessageDelivery, Patience, begun, tried
from services.monitor.dispatch.outbox_store import OutboxStore
from services.monitor.notify.notifier import Notifier, NotSent
from shared.store import RedisError

log = logging.getLogger(__name__)

AT_A_TIME = 4
OF_A_SERVER = 2  # sends at a time to one server, so that a server that hangs does not block the others
LEAVE_S = 5.0


class Outbox:
    """Sends due deliveries in background tasks, so that `step` waits for no recipient's server. The result of a send is
    held in memory until it is stored, so that an outage of Redis causes no second send. When the context is left,
    running sends get 5 s to end; those that have not ended then are sent again after the next start. `wake` is called
    when a send has ended.
    """

    def __init__(
        self,
        store: OutboxStore,
        notifier: Notifier,
        now: Callable[[], datetime],
        wake: Callable[[], None],
        *,
        patience: Patience | None = None,
        at_a_time: int = AT_A_TIME,
        of_a_server: int = OF_A_SERVER,
    ) -> None:
        self._store = store
        self._notifier = notifier
        self._now = now
        self._wake = wake
        self._patience = patience or Patience()
        self._at_a_time = at_a_time
        self._of_a_server = of_a_server
        self._sends: dict[str, asyncio.Task[None]] = {}
        self._busy: Counter[str] = Counter()
        self._unsaved: dict[str, MessageDelivery] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._sends:
            await asyncio.wait(self._sends.values(), timeout=LEAVE_S)
        try:
            await self._save_outcomes()
        except RedisError as lost:
            log.warning("of %d deliveries the outcome is not stored: %s", len(self._unsaved), lost)

    async def step(self) -> float | None:
        """Stores results and begins due sends; before each send, its state `sending` is stored. Returns the seconds
        until the next delivery is due, or None if there is none. Raises RedisError if Redis does not answer.
        """
        await self._save_outcomes()
        for delivery in await self._store.get(await self._next()):
            if delivery.ended:
                await self._store.save(delivery)  # its event was handled again after the delivery had ended
            elif not self._is_under_way(delivery.id):
                sending = begun(delivery, self._now())
                await self._store.save(sending)
                self._busy[sending.server] += 1
                self._sends[sending.id] = asyncio.create_task(self._send(sending), name=f"delivery {sending.id}")
        return await self._store.next_due_s(self._now())

    async def _next(self) -> list[str]:
        """Returns the ids of the deliveries to send now, longest due first, within the limits for sends at the same
        time.
        """
        room, busy = self._at_a_time - len(self._sends), Counter(self._busy)
        chosen: list[str] = []
        for due in await self._store.due(self._now()):
            if len(chosen) < room and busy[due.server] < self._of_a_server and not self._is_under_way(due.id):
                busy[due.server] += 1
                chosen.append(due.id)
        return chosen

    def _is_under_way(self, delivery_id: str) -> bool:
        return delivery_id in self._sends or delivery_id in self._unsaved

    async def _send(self, delivery: MessageDelivery) -> None:
        error: str | None = None
        try:
            if delivery.url is None or delivery.message is None:
                raise NotSent("its address or message is missing in the store")
            await self._notifier.send(delivery.url, delivery.message, delivery.id)
        except NotSent as refused:
            error = str(refused)
        except Exception as bug:
            log.exception("delivery %s", delivery.id)
            error = f"an error of the platform: {type(bug).__name__}"
        done = tried(delivery, error, self._patience, self._now())
        log.info("delivery %s to %s: %s %s", done.id, done.recipient, done.state, done.reason)
        self._unsaved[done.id] = done
        self._busy -= Counter([done.server])  # this also removes servers with a count of 0
        del self._sends[done.id]
        self._wake()

    async def _save_outcomes(self) -> None:
        for delivery in list(self._unsaved.values()):
            await self._store.save(delivery)
            del self._unsaved[delivery.id]
            if delivery.ended:
                await self._store.trim()
