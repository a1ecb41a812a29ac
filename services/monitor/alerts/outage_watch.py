"""Asks the deployer why the production of an app has no ready instance, and whether people have stopped it."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from services.monitor.alerts.evaluator import Evaluator
from services.monitor.alerts.proxy_figures import CALL_S
from services.monitor.inventory.inventory import Inventory
from services.monitor.inventory.live_releases import LiveReleases
from shared.errors import Problem
from shared.http import ServiceClient
from shared.models import Environment, EnvironmentView, ReleaseState

ASKED_EVERY = timedelta(seconds=10)
AT_A_TIME = 8


class OutageWatch:
    """Asks the deployer about each app whose production has no ready instance: which release is live, and why none is
    ready. Ends alerts only if the deployer says that their release is not live any more, or that people stopped the
    app; missing data end none. Events report such changes earlier, but one may be lost.
    """

    def __init__(
        self,
        deployer: ServiceClient,
        inventory: Inventory,
        releases: LiveReleases,
        evaluator: Evaluator,
        clock: Callable[[], datetime],
    ) -> None:
        self._deployer = deployer
        self._inventory = inventory
        self._releases = releases
        self._evaluator = evaluator
        self._clock = clock
        self._asked_at: dict[str, datetime] = {}

    async def step(self) -> None:
        """Asks the deployer about those apps without a ready instance about which it was not asked in the last 10 s,
        eight at a time. Raises RedisError.
        """
        now = self._clock()
        out = self._inventory.without_ready() if self._inventory.answers else set()
        self._asked_at = {app: at for app, at in self._asked_at.items() if app in out and now - at < ASKED_EVERY}
        left = iter(sorted(out - self._asked_at.keys()))

        async def work() -> None:
            for app in left:
                self._asked_at[app] = now
                await self._ask(app)

        async with asyncio.TaskGroup() as workers:
            for _ in range(min(AT_A_TIME, len(out))):
                workers.create_task(work())

    async def _ask(self, app: str) -> None:
        live = self._inventory.live(app)
        try:
            path = f"/apps/{app}/environments/{Environment.PRODUCTION}"
            answer = await self._deployer.get(path, timeout_s=CALL_S, repeatable=False)
        except Problem as problem:
            if problem.status == 404 and live and await self._releases.is_stored(app):  # Redis has lost nothing
                self._evaluator.end(live, f"the production of {app} is gone")
            return
        if live is None or live != self._inventory.live(app):
            return
        view = EnvironmentView.model_validate(answer)
        release = view.release if view.release and view.release.state is ReleaseState.LIVE else None
        if view.state != "running":
            self._evaluator.end(live, view.reason or f"the production of {app} is {view.state}")
        elif release is None:
            self._evaluator.end(live, f"the deployer has no live release of {app} in production")
        elif release.id != live:
            self._evaluator.end(live, f"production runs {release.id} now")
            self._inventory.replace(app, release.id)
        else:
            self._inventory.explain(app, view.problem or _words(answer["instances"]))


def _words(instances: Sequence[Mapping[str, Any]]) -> str:
    """Returns a sentence with the states of the instances and their reasons, which the registry lacks; empty if there
    are no instances.
    """
    reasons = ((each, f" ({each['reason']})" if each.get("reason") else "") for each in instances)
    return ", ".join(f"{each['id']} is {each['state']}{reason}" for each, reason in reasons)
