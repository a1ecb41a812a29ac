"""Sends commit statuses to forges in the background, with retries for an hour."""

import asyncio
import logging
import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import httpx

from services.build.builds.build_store import BuildStore
from services.build.builds.status import PendingStatuses, Status
from services.build.builds.status_store import StatusStore
from services.build.forges.forge_status import status_request
from services.build.git.remote_source import Source
from shared.errors import NotFound
from shared.runtime.backoff import backoff_s
from shared.runtime.keyed_tasks import KeyedTasks
from shared.security.outgoing import AddressRefused
from shared.security.vault import Vault, VaultError

log = logging.getLogger(__name__)

TIMEOUT_S = 10.0
GIVE_UP_S = 3600.0
LONGEST_WAIT_S = 300.0
REMEMBERED = 1000
REFUSALS = frozenset({400, 401, 404, 410, 422})  # permanent: a repeated request is refused too


class StatusNotSent(Exception):
    """Reports that the forge did not accept a status, and that a retry may succeed."""


@dataclass
class _SentStatuses:
    """Records which commit statuses were last sent for a commit."""

    number: int = 0
    """Number of the newest build whose statuses were sent."""
    statuses: dict[str, Status] = field(default_factory=dict)
    """Last sent status by stage."""


class StatusOutbox:
    """Sends commit statuses to forges. A loop calls `step`, which starts the sending in the background. If a commit has
    several builds, only the statuses of the newest one are sent.
    """

    def __init__(
        self,
        store: BuildStore,
        statuses: StatusStore,
        vault: Vault,
        http: httpx.AsyncClient,
        tasks: KeyedTasks,
        url: str,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._statuses = statuses
        self._vault = vault
        self._http = http
        self._tasks = tasks
        self._url = url
        self._clock = clock
        self._sent: OrderedDict[tuple[str, str], _SentStatuses] = OrderedDict()
        self._since: dict[str, float] = {}  # build → time of its first failure
        self._failures: defaultdict[str, int] = defaultdict(int)  # app → consecutive failures
        self._due: dict[str, float] = {}  # app → time of its next try

    async def step(self) -> None:
        waiting: defaultdict[str, dict[str, PendingStatuses]] = defaultdict(dict)
        for build, pending in (await self._statuses.pending()).items():
            waiting[pending.app][build] = pending
        for app in sorted(waiting):
            if self._due.get(app, 0.0) <= self._clock():
                self._tasks.start(app, partial(self._serve, app, waiting[app]))

    async def _serve(self, app: str, waiting: dict[str, PendingStatuses]) -> None:
        source, token = await self._access(app)
        for build, pending in sorted(waiting.items(), key=lambda item: item[1].number):
            if source is not None:
                try:
                    await self._send_changed(source, token, build, pending)
                except StatusNotSent as error:
                    if not self._gives_up(app, build, str(error)):
                        return
            await self._statuses.done(build, pending)
            self._since.pop(build, None)
        self._failures.pop(app, None)

    async def _access(self, app: str) -> tuple[Source | None, str]:
        """Returns the app's source and its decrypted access token. Returns None and an empty text if no status can be
        sent: the app, its source or its token is missing, or the token is unreadable.
        """
        try:
            source = (await self._store.app(app)).source
            if source is None or not source.token:
                return None, ""
            return source, self._vault.open(source.token)
        except NotFound:
            return None, ""
        except VaultError as error:
            log.error("the forge of %s gets no statuses: source.token cannot be read: %s", app, error)
            return None, ""

    async def _send_changed(self, source: Source, token: str, build: str, pending: PendingStatuses) -> None:
        """Sends those statuses of the build that differ from the ones last sent for its commit; none if statuses of a
        newer build were sent. Raises StatusNotSent if the forge does not accept one.
        """
        sent = self._sent.setdefault((pending.app, pending.commit), _SentStatuses())
        self._sent.move_to_end((pending.app, pending.commit))
        if len(self._sent) > REMEMBERED:
            self._sent.popitem(last=False)
        if pending.number < sent.number:
            return
        if pending.number > sent.number:
            sent.number, sent.statuses = pending.number, {}
        for status in pending.statuses:
            if sent.statuses.get(status.stage) != status:
                await self._send(source, token, build, pending.commit, status)
                sent.statuses[status.stage] = status

    async def _send(self, source: Source, token: str, build: str, commit: str, status: Status) -> None:
        request = status_request(source, token, commit, status, f"{self._url}/builds/{build}")
        try:
            async with asyncio.timeout(TIMEOUT_S):
                answer = await self._http.post(request.url, headers=request.headers, json=request.body)
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
            refused = isinstance(error.__cause__, AddressRefused)
            raise StatusNotSent(str(error) if refused else type(error).__name__) from None
        if answer.status_code in REFUSALS:
            # GitLab refuses a state that the commit has already with 400, which is no fault.
            level = logging.DEBUG if "Cannot transition status" in answer.text[:2000] else logging.WARNING
            log.log(level, "%s of %s was refused by the forge: %d", status.context, build, answer.status_code)
        elif not answer.is_success:
            raise StatusNotSent(f"it answered {answer.status_code}")

    def _gives_up(self, app: str, build: str, reason: str) -> bool:
        """Returns True if the sending of the build's statuses has failed for an hour. If not, returns False and sets
        the time of the next try for the app's forge, with a back-off of 2, 4, 8 … 300 s.
        """
        since = self._since.setdefault(build, self._clock())
        if self._clock() - since >= GIVE_UP_S:
            log.warning("the forge was not told of %s: %s", build, reason)
            return True
        if self._failures[app] == 0:
            log.warning("the forge of %s has not taken the statuses yet: %s", app, reason)
        self._failures[app] += 1
        self._due[app] = self._clock() + backoff_s(self._failures[app], first_s=2.0, longest_s=LONGEST_WAIT_S)
        return False
