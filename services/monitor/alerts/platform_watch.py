"""Asks every service how it is, and keeps the alerts about the platform."""

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
"""A problem counts until it was not reported for so long: what comes and goes is one alert."""


class PlatformWatch:
    """Asks every service for its `/ready` and updates the alerts. `holder` returns who has a service's port, if that is
    not the service; `wake` is called when an alert changed.
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
        """Asks all services at once, but not at the first call, as services start together. An alert fires once its
        problem has lasted, with each reading or with gaps of up to a minute; it resolves after a minute without it.
        Returns the seconds until the next step while there is a problem, else None.
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
