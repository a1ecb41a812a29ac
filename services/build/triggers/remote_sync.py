"""Fetches the repositories of apps that have a source (a repository at a forge), and processes webhook deliveries of
forges that wait for such a fetch.
"""

import asyncio
import contextlib
import logging
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime
from functools import partial

from services.build.builds.app import App, check_branch
from services.build.builds.build import Build
from services.build.builds.build_store import BuildStore
from services.build.builds.rebuild_request import RebuildRequest
from services.build.forges.delivery import (
    TRIES,
    WebhookDelivery,
    WebhookDeliveryState,
    became,
    failed_try,
    judged,
    not_seen,
    wait_s,
)
from services.build.forges.delivery_store import DeliveryStore
from services.build.forges.webhook import skip_reason
from services.build.git.git_fetch import Fetcher, FetchFailed
from services.build.git.remote_source import SOURCE_EXAMPLE
from services.build.system.api_call import api_call
from services.build.triggers.push_handler import PushHandler
from shared.clock import none_ahead
from shared.errors import Conflict, InsufficientStorage, Invalid, NotFound, Timeout, Unavailable
from shared.runtime.keyed_tasks import KeyedTasks

log = logging.getLogger(__name__)

INTERVAL_S = 1.0  # between the starts of two fetches of an app, so that many deliveries cause few fetches
REQUEST_TIMEOUT_S = 30.0


class RemoteSync:
    """Fetches the sources of apps (their repositories at a forge) and queues builds of what is new. A loop calls
    `step`. The first call fetches the sources of all apps, because webhooks may have been missed while the service was
    down. While `shortage` returns a reason, such as a full disk, fetches wait.
    """

    def __init__(
        self,
        store: BuildStore,
        deliveries: DeliveryStore,
        push_handler: PushHandler,
        fetcher: Fetcher,
        tasks: KeyedTasks,
        now: Callable[[], datetime],
        *,
        wake: Callable[[], None],
        interval_s: float = INTERVAL_S,
        shortage: Callable[[], str] = str,
    ) -> None:
        self._store = store
        self._deliveries = deliveries
        self._push_handler = push_handler
        self._fetcher = fetcher
        self._tasks = tasks
        self._now = now
        self._interval_s = interval_s
        self._shortage = shortage
        self._short = ""
        self._wake = wake
        self._begun = False
        self._unprompted: dict[str, int] = {}  # app to be fetched without a delivery → number of failed fetches
        self._due: dict[str, float] = {}  # app → time of its next fetch (monotonic clock)
        self._again: dict[str, datetime] = {}  # app whose deliveries the forge's git does not show yet → next fetch
        self._asked: set[str] = set()  # apps with a delivery or a change since their last fetch began
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def step(self) -> float | None:
        """Starts the fetches that are due. Returns the seconds until the next call while apps wait for a fetch, else
        None.
        """
        if not self._begun:
            self._unprompted |= {app.name: 0 for app in await self._store.apps() if app.source is not None}
            self._begun = True
        waiting = await self._deliveries.apps_waiting() | self._unprompted.keys()
        if waiting and (short := self._shortage()):
            if not self._short:
                log.warning("the sources of %s wait: %s", ", ".join(sorted(waiting)), short)
            self._short = short
            return INTERVAL_S
        self._short = ""
        for app in sorted(waiting):
            if self._is_due(app) and not self._waits_for_commit(app):
                self._due[app] = time.monotonic() + self._interval_s
                self._tasks.start(app, partial(self._serve, app))
        return INTERVAL_S if waiting else None

    def on_delivery(self, app: str) -> None:
        """Wakes the loop because a forge has delivered a webhook for the app. If a fetch of the app began less than 1 s
        ago or is still running, does not wake it; a later `step` then fetches again.
        """
        self._asked.add(app)
        if self._is_due(app):
            self._wake()

    def _is_due(self, app: str) -> bool:
        return self._due.get(app, 0.0) <= time.monotonic() and self._tasks.has_room_for(app)

    def _waits_for_commit(self, app: str) -> bool:
        asked = app in self._asked or app in self._unprompted
        return not asked and app in self._again and self._now() < self._again[app]

    def request_fetch(self, app: App) -> None:
        """Requests a fetch after a change of the app's source or branches. Does nothing if the app has no source."""
        if app.source is not None:
            self._unprompted[app.name] = 0
            self._asked.add(app.name)
            self._due.pop(app.name, None)
            self._wake()

    async def build(self, name: str, branch: str | None, commit: str | None) -> Build:
        """Fetches the app's source, if it has one and the repository does not hold `commit` yet, and queues a build of
        the branch or commit. Raises NotFound or Invalid for an unknown app, branch or commit, Unavailable if the fetch
        fails, InsufficientStorage if the disk has no room, and Timeout if it takes too long.
        """
        app, requested_at = await self._store.app(name), self._now()
        if app.source is None or (commit and await self._push_handler.has(name, commit)):
            return await self._push_handler.queue(name, branch=branch, commit=commit)
        if branch is not None:
            try:
                check_branch(branch)
            except ValueError as error:
                raise Invalid("branch", str(error)) from None
        if short := self._shortage():
            raise InsufficientStorage(f"the source of {name} is not fetched: {short}")
        await self._fetch_on_request(app, [branch] if branch else [])
        head, build_id = (await self._push_handler.queue_heads(name)).get(branch or "", ("", ""))
        if (
            build_id
            and commit in (None, head)
            and (queued := await self._store.build(build_id)).created_at >= requested_at
        ):
            return queued
        return await self._push_handler.queue(name, branch=branch, commit=commit)

    async def rebuild(self, name: str, request: RebuildRequest) -> Build:
        """Queues a build that rebuilds the lost artifact of a release and is deployed in its place. First fetches the
        source, if the app has one and the repository lacks the commit. Raises NotFound for an unknown app, Conflict if
        the app is being removed or the commit cannot be found, and Unavailable or Timeout if the fetch fails or takes
        too long.
        """
        app = await self._store.app(name)
        if app.source is not None and not await self._push_handler.has(name, request.commit):
            await self._fetch_on_request(app, [])
        return await self._push_handler.queue_rebuild(name, request)

    @contextlib.asynccontextmanager
    async def undisturbed(self, name: str) -> AsyncIterator[None]:
        """Prevents fetches of the app during the block. Raises Timeout if waiting for a running fetch and the block
        together take more than 30 s.
        """
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S), self._locks[name]:
                yield
        except TimeoutError:
            raise Timeout(f"the source of {name} was not fetched within {REQUEST_TIMEOUT_S:g} s; try again") from None

    async def _fetch_on_request(self, app: App, extra_branches: Sequence[str]) -> None:
        try:
            async with self.undisturbed(app.name):
                await self._fetch(app, extra_branches)
        except FetchFailed as error:
            raise Unavailable(f"the source of {app.name} could not be fetched: {error}") from None

    async def _fetch(self, app: App, extra_branches: Sequence[str] = ()) -> None:
        if app.source is None:
            call = api_call("PUT", f"/apps/{app.name}", {"source": SOURCE_EXAMPLE})
            raise FetchFailed(f"the app has no source any more; set one by a call such as {call}")
        await self._fetcher.fetch(app.name, app.source, {*app.branches, *extra_branches})

    async def _serve(self, name: str) -> None:
        """Fetches the app's source once, and records the outcome in all webhook deliveries of the app that were waiting
        when it began.
        """
        async with self._locks[name]:
            self._asked.discard(name)
            self._again.pop(name, None)
            batch = [none_ahead(each, self._now()) for each in await self._deliveries.waiting(name)]
            try:
                (app := await self._store.app(name)).check_stays()
            except (NotFound, Conflict):
                self._unprompted.pop(name, None)
                await self._deliveries.forget(name)
                return
            try:
                await self._fetch(app)
            except FetchFailed as error:
                await self._failed(name, batch, str(error))
                return
        if name not in self._asked:  # otherwise the app may have changed during the fetch
            self._unprompted.pop(name, None)
        after = await self._outcomes(app, batch)
        if waiting := [each.fetch_again_at for each in after if each.waits]:
            self._again[name] = min(waiting)
        await self._deliveries.save(after)
        await self._deliveries.trim(name)

    async def _failed(self, name: str, batch: Sequence[WebhookDelivery], reason: str) -> None:
        log.warning("the source of %s could not be fetched: %s", name, reason)
        if name in self._unprompted:
            self._unprompted[name] += 1
            if self._unprompted[name] >= TRIES:
                del self._unprompted[name]
        after = [failed_try(delivery, reason) for delivery in batch]
        tries = min([delivery.tries for delivery in after] or [self._unprompted.get(name, 0)])
        self._due[name] = time.monotonic() + wait_s(tries)
        await self._deliveries.save(after)
        await self._deliveries.trim(name)

    async def _outcomes(self, app: App, batch: Sequence[WebhookDelivery]) -> list[WebhookDelivery]:
        heads = await self._push_handler.queue_heads(app.name)
        held = await self._push_handler.held(app.name, {each.commit for each in batch if each.commit})
        builds = {build: await self._store.build(build) for _, build in heads.values() if build}
        after = []
        for delivery in batch:
            head, build = heads.get(delivery.branch or "", (None, ""))
            if delivery.branch in app.branches and delivery.outran(head, in_repository=delivery.commit in held):
                after.append(not_seen(delivery, head, self._now()))
            elif head is None:
                reason = f"{delivery.branch} is not mapped to an environment, or is not there any more"
                after.append(became(delivery, WebhookDeliveryState.IGNORED, reason))
            elif not build:
                after.append(became(delivery, WebhookDeliveryState.IGNORED, skip_reason(head)))
            else:
                after.append(judged(delivery, head, build, builds[build].created_at))
        return after
