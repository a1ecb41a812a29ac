"""The background steps that are about Envoy itself: is it up to date, and what has it counted."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime

from services.proxy.control.control_plane import ControlPlane
from services.proxy.traffic import RequestCounts
from shared.proxy_models import TrafficView


async def for_each(apps: Iterable[str], action: Callable[[str], Awaitable[None]]) -> None:
    """Every app has its turn, whatever becomes of another's; the first error is raised at the end."""
    errors: list[Exception] = []
    for app in list(apps):
        try:
            await action(app)
        except Exception as error:
            errors.append(error)
    if errors:
        raise errors[0]


class EnvoyWatch:
    """Sees to it that Envoy runs the files' versions."""

    def __init__(self, control: ControlPlane) -> None:
        self._control = control
        self._missed: frozenset[str] = frozenset()

    async def step(self) -> None:
        """A file that Envoy has not taken up over two steps is moved into place again (it may have missed the move);
        an app whose clusters were not warm in time for its sync gets its routes. Raises Unavailable, Timeout.
        """
        unaccepted = frozenset(await self._control.unaccepted())
        for name in sorted(unaccepted & self._missed):
            self._control.move_again(name)
        self._missed = unaccepted
        for app, route in list(self._control.routes.items()):
            if not route.clusters:
                await self._control.confirm(app, 1.0)

    async def check(self) -> str | None:
        """Why Envoy is not well, or None."""
        unaccepted = await self._control.unaccepted()
        return f"Envoy does not run the newest version of {', '.join(unaccepted)}" if unaccepted else None


class TrafficReader:
    """Reads Envoy's counters into the ledger. `read_at`: when it last did."""

    def __init__(self, control: ControlPlane, ledger: RequestCounts) -> None:
        self._control = control
        self._ledger = ledger
        self.read_at: datetime | None = None
        self._uptime_s = 0
        self._one_reading = asyncio.Lock()

    async def view(self, app: str) -> TrafficView:
        """The app's figures as they are at this moment. Raises NotFound, and Unavailable when Envoy does not answer."""
        self._control.route(app)
        await self.step()
        return self._ledger.view(self._control.route(app))

    async def step(self) -> None:
        """Raises Unavailable when Envoy does not answer."""
        async with self._one_reading:
            await self._read()

    async def _read(self) -> None:
        admin = self._control.admin
        before = list(self._control.routes.values())  # an endpoint newer than the reading is not one that fails
        uptime_s = await admin.uptime_s()
        latencies = await admin.latencies()
        clusters = await admin.clusters()
        if uptime_s < self._uptime_s:
            self._ledger.restart()
        self._uptime_s = uptime_s
        self._ledger.count(self._control.routes.values(), clusters)
        self._ledger.time(before, clusters, latencies)
        self.read_at = self._control.now()
