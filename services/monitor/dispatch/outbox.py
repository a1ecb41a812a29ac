"""Sends what is due: a few deliveries at a time, each as often as it takes."""

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
OF_A_SERVER = 2  # a server that hangs must leave room for the others
LEAVE_S = 5.0


class Outbox:
    """`step` is a loop's and waits for no server: sends are tasks of their own. What came of a send is kept until the
    store has it, so that no outage of Redis sends a message twice. At the end of the block, sends under way are given
    5 s; what is still not known then is sent again after the next start.
    """

    def __init__(
        self,
        store: OutboxStore,
        notifier: Notifier,
        now: Callable[[], datetime],
        *,
        patience: Patience | None = None,
        at_a_time: int = AT_A_TIME,
        of_a_server: int = OF_A_SERVER,
    ) -> None:
        self._store = store
        self._notifier = notifier
        self._now = now
        self._patience = patience or Patience()
        self._at_a_time = at_a_time
        self._of_a_server = of_a_server
        self._sends: dict[str, asyncio.Task[None]] = {}
        self._busy: Counter[str] = Counter()
        self._unsaved: dict[str, MessageDelivery] = {}
        self.wake: Callable[[], None] = lambda: None

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

    async def step(self) -> None:
        """Raises RedisError; nothing is sent then that was not stored as `sending`."""
        await self._save_outcomes()
        for delivery in await self._store.get(await self._next()):
            if delivery.ended:
                await self._store.save(delivery)  # its event was settled again after the end
            elif not self._is_under_way(delivery.id):
                sending = begun(delivery, self._now())
                await self._store.save(sending)
                self._busy[sending.server] += 1
                self._sends[sending.id] = asyncio.create_task(self._send(sending), name=f"delivery {sending.id}")

    async def _next(self) -> list[str]:
        """Ids of those to begin now, the longest due first, as far as there is room."""
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
                raise NotSent("its message is not there any more")
            await self._notifier.send(delivery.url, delivery.message, delivery.id)
        except NotSent as refused:
            error = str(refused)
        except Exception as bug:
            log.exception("delivery %s", delivery.id)
            error = f"an error of the platform: {type(bug).__name__}"
        done = tried(delivery, error, self._patience, self._now())
        log.info("delivery %s to %s: %s %s", done.id, done.recipient, done.state, done.reason)
        self._unsaved[done.id] = done
        self._busy[done.server] -= 1
        del self._sends[done.id]
        self.wake()

    async def _save_outcomes(self) -> None:
        for delivery in list(self._unsaved.values()):
            await self._store.save(delivery)
            del self._unsaved[delivery.id]
            if delivery.ended:
                await self._store.trim()
