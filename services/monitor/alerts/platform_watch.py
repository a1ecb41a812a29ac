"""Requests `/ready` from every service, and updates the alerts about the platform."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta

from services.monitor.alerts.alert_state import ActiveAlerts
from services.monitor.alerts.platform_problem import PlatformProblem, durations, problems_of
from shared.config import ServiceName
from shared.errors import Problem
from shared.http import ServiceClient
from shared.web.readiness import Readiness

AGAIN_S = 5.0
HELD = timedelta(seconds=60)
"""Time for which a problem still counts after its last report, so that one that comes and goes is one alert."""


class PlatformWatch:
    """Requests `/ready` from every service and updates the alerts about the platform. `holder` returns a text that
    names the process which has a service's port, if that is not the service itself; `wake` is called when an alert has
    changed.
    """

    def __init__(
        self,
        services: Mapping[ServiceName, ServiceClient],
        alerts: ActiveAlerts,
        holder: Callable[[ServiceName], Awaitable[str | None]],
        clock: Callable[[], datetime],
        wake: Callable[[], None],
    ) -> None:
        self._services = services
        self._alerts = alerts
        self._holder = holder
        self._clock = clock
        self._wake = wake
        self._has_begun = False
        self._seen: dict[str, tuple[PlatformProblem, datetime]] = {}

    async def step(self) -> float | None:
        """Asks all services at the same time. The first call does nothing, because the services start together. An
        alert fires once its problem has lasted 30 s (of a service) or 15 s, if no more than a minute passed between two
        reports of it. It resolves after a minute without a report. Returns the seconds until the next step while there
        is a problem, else None.
        """
        if not self._has_begun:
            self._has_begun = True
            return None
        await self._alerts.load_if_possible()
        answers = await asyncio.gather(*map(self._read, self._services))
        now = self._clock()
        for alert in self._alerts.open_alerts():  # also those of an earlier process
            if not alert.app and alert.id not in self._seen:
                self._seen[alert.id] = (PlatformProblem(alert.rule, alert.service, alert.reason), now)
        found = {each.alert: each for each in problems_of(dict(zip(self._services, answers, strict=True)))}
        self._seen |= {name: (problem, now) for name, problem in found.items()}
        changed = False
        for name, (problem, at) in list(self._seen.items()):
            is_there = True if name in found else None if now - at < HELD else False
            reason = problem.reason if is_there else f"not seen for {HELD.total_seconds():.0f} s"
            args = (name, durations(problem), problem.service, is_there, reason, now)
            changed |= self._alerts.apply_to_platform(*args)
            if is_there is False:
                del self._seen[name]
        if changed:
            self._wake()
        return AGAIN_S if self._seen else None

    async def _read(self, name: ServiceName) -> Readiness | str:
        try:
            return Readiness.model_validate(await self._services[name].readiness())
        except (Problem, ValueError) as error:
            why = error.detail if isinstance(error, Problem) else "its answer cannot be read"
            holder = await self._holder(name)
            return f"{why}{f': {holder}' if holder else ''}"
