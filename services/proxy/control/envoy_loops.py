"""Holds the work of two background loops: one makes sure that Envoy runs the newest versions of the files that
configure it, the other reads Envoy's access log. A file that Envoy has not accepted is moved into place again, and `GET
/ready` names it.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import TypeVar

from services.proxy.control.control_plane import ControlPlane
from services.proxy.counting.log_reader import AccessLogReader
from services.proxy.counting.request_counts import RequestCounts, sampling
from shared.errors import Unavailable
from shared.host.port_holder import taken_by
from shared.proxy_models import TrafficView

Item = TypeVar("Item")

AT_A_TIME = 8
FRESH_S = 2.5  # the monitor calls every 2 s, and every 0.5 s during a rollout
CHECKED_S = 10.0
SHORTEST_S = 0.5  # Envoy writes to its log four times a second
LINE_BYTES = 200


async def for_each(items: Collection[Item], action: Callable[[Item], Awaitable[None]]) -> None:
    """Runs the action for every item, eight at a time. Continues after an error; at the end raises the first one."""
    errors: list[Exception] = []
    left = iter(items)

    async def work() -> None:
        for item in left:
            try:
                await action(item)
            except Exception as error:
                errors.append(error)

    async with asyncio.TaskGroup() as workers:
        for _ in range(min(AT_A_TIME, len(items))):
            workers.create_task(work())
    if errors:
        raise errors[0]


class EnvoyWatch:
    """Makes sure that Envoy runs the newest versions of the files that configure it. `ports` holds the ports on which
    Envoy listens, by the name of the setting of each.
    """

    def __init__(
        self,
        control: ControlPlane,
        clock: Callable[[], float] = time.monotonic,
        ports: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        self._control = control
        self._ports = ports
        self._clock = clock
        self._missed: frozenset[str] = frozenset()
        self._accepted: Mapping[str, str] = {}
        self._checked_at = float("-inf")

    async def step(self) -> None:
        """Repeats a write of Envoy's files that failed, and checks once whether Envoy has accepted the files. A file
        that Envoy has not accepted at two checks in a row is moved into place again, since Envoy may have missed the
        first move. Asks Envoy only if a file was written since Envoy had accepted all of them, or if 10 s have passed.
        Then waits up to 1 s for the clusters of each app that Envoy had not loaded yet. Raises OSError, Unavailable or
        Timeout.
        """
        self._control.write_again()
        written = self._control.versions
        if written != self._accepted or self._clock() - self._checked_at >= CHECKED_S:
            await self._check(written)
        await for_each([route.app for route in self._control.routes.busy() if not route.clusters], self._warm)

    async def _check(self, written: Mapping[str, str]) -> None:
        unaccepted = frozenset(await self._control.unaccepted())
        for name in sorted(unaccepted & self._missed):
            self._control.move_again(name)
        self._missed = unaccepted
        self._accepted = {} if unaccepted else written
        self._checked_at = self._clock()

    async def _warm(self, app: str) -> None:
        await self._control.confirm(app, 1.0)

    async def check(self) -> str | None:
        """Returns a text for `GET /ready`: which files Envoy has not accepted, or that Envoy does not answer, and which
        other process occupies its ports. Returns None if Envoy has accepted all files.
        """
        try:
            unaccepted = await self._control.unaccepted()
        except Unavailable as error:
            holder = await taken_by(self._ports, ("envoy",))
            return f"{error.detail}{f'; {holder}' if holder else ''}"
        return f"Envoy does not run the newest version of {', '.join(unaccepted)}" if unaccepted else None


class TrafficReader:
    """Reads Envoy's access log, and counts the requests of all apps. `read_at` is the time of the last reading. Each
    reading also calls `tell_connections` with the number of connections that visitors have. Callers that come while a
    reading is running share the next one, so that many callers cost no more than one.
    """

    def __init__(
        self,
        control: ControlPlane,
        counts: RequestCounts,
        access_log: AccessLogReader,
        tell_connections: Callable[[int], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._control = control
        self._counts = counts
        self._log = access_log
        self._tell_connections = tell_connections
        self._clock = clock
        self.read_at: datetime | None = None
        self._one_reading = asyncio.Lock()
        self._begun = self._ended = 0
        """Numbers of the readings that were begun and ended last."""
        self._ended_at = float("-inf")
        self._failure: Unavailable | None = None

    async def view(self, app: str) -> TrafficView:
        """Reads Envoy's access log and returns the app's traffic figures. Raises NotFound if the app has no route, and
        Unavailable if Envoy does not answer.
        """
        self._control.route(app)
        await self.step()
        return self._counts.view(self._control.route(app))

    async def views(self) -> dict[str, TrafficView]:
        """Reads Envoy's access log and returns app → traffic figures. Raises Unavailable if Envoy does not answer."""
        await self.step()
        return {app: self._counts.view(route) for app, route in self._control.routes.items()}

    async def keep_current(self) -> None:
        """Reads Envoy's access log, unless it was read within the last 2.5 s. Raises Unavailable if Envoy does not
        answer.
        """
        if self._clock() - self._ended_at >= FRESH_S:
            await self.step()

    async def step(self) -> None:
        """Reads Envoy's access log. If another caller's reading begins while this call waits for its turn, uses that
        one instead. Raises Unavailable if Envoy does not answer.
        """
        earlier = self._begun
        async with self._one_reading:
            if self._ended <= earlier:
                self._begun += 1
                await self._read()
                self._ended, self._ended_at = self._begun, self._clock()
            if self._failure:
                raise self._failure

    async def _read(self) -> None:
        self._failure = None
        try:
            self._tell_connections(await self._control.admin.connections())  # fails if Envoy is away
            await self._count()
        except Unavailable as error:
            self._failure = error
            return
        self.read_at = self._control.now()

    async def _count(self) -> None:
        seconds = max(SHORTEST_S, self._clock() - self._ended_at)
        one_in = sampling(self._log.waiting / LINE_BYTES / seconds)
        async for lines in self._log.slices():
            self._counts.add(lines, self._control.routes, one_in)
            await asyncio.sleep(0)  # so that a long log keeps no other task waiting
