"""Reads the traffic and the rollouts of apps from the proxy, and keeps what the proxy said last."""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime

from pydantic import ValidationError

from services.monitor.alerts.traffic_window import Window
from services.monitor.samples.traffic_cache import TrafficCache
from services.monitor.samples.traffic_views import TrafficViews
from shared.errors import Problem
from shared.http import ServiceClient
from shared.models import Track
from shared.proxy_models import AppTraffic, RolloutState, RolloutView, TrafficView

CALL_S = 1.5  # time-out of a call, which is not retried, since the next step calls again
UNREADABLE = "the proxy's traffic figures cannot be read; proxy and monitor must be of one version"
CURRENT = frozenset({RolloutState.PROGRESSING, RolloutState.PAUSED})


class ProxyFigures:
    """Holds the last traffic and the last rollout of each app, also while the proxy does not answer."""

    def __init__(self, proxy: ServiceClient, traffic: TrafficCache, clock: Callable[[], datetime]) -> None:
        self._proxy = proxy
        self._traffic = traffic
        self._clock = clock
        self._views = TrafficViews()
        self._fresh: dict[str, AppTraffic] = {}
        self._windows: dict[str, Window] = {}
        self._rollouts: dict[str, RolloutView] = {}
        self._unanswered: dict[str, str] = {}

    @property
    def problem(self) -> str | None:
        """Returns the reason why the proxy did not answer last time; None if it did, or was not called."""
        return next(iter(self._unanswered.values()), None)

    @property
    def rollouts(self) -> Mapping[str, RolloutView]:
        """Returns app → its rollout as the proxy said last."""
        return self._rollouts

    def rollout(self, app: str) -> RolloutView | None:
        """Returns the app's rollout as the proxy said last; None if it never did."""
        return self._rollouts.get(app)

    def current_release(self, app: str) -> str | None:
        """Returns the release that is being rolled out; None if there is none, or the proxy never said so."""
        rollout = self._rollouts.get(app)
        return rollout.release if rollout is not None and rollout.state in CURRENT else None

    def window(self, app: str) -> Window:
        """Returns the app's traffic of the last 5 minutes; empty if there is none."""
        return self._windows.get(app, Window())

    def fresh(self, app: str) -> TrafficView | None:
        """Returns the app's traffic as the last call of `read` got it; None if that call got none."""
        return self._fresh.get(app)

    def with_canary(self) -> set[str]:
        """Returns the apps that have a canary: in a rollout that is under way, or in the traffic."""
        under_way = {app for app, rollout in self._rollouts.items() if rollout.state in CURRENT}
        return under_way | {app for app, window in self._windows.items() if window.release(Track.CANARY)}

    def keep(self, apps: Collection[str]) -> None:
        """Forgets all apps that are not in `apps`."""
        self._windows = {app: window for app, window in self._windows.items() if app in apps}
        self._rollouts = {app: rollout for app, rollout in self._rollouts.items() if app in apps}
        self._unanswered = {app: why for app, why in self._unanswered.items() if app in apps}

    async def read(self, apps: Collection[str], canaries: Sequence[str]) -> list[BaseException]:
        """Reads the traffic of `apps`, and the rollouts of those of them that are in `canaries`. If the proxy does not
        answer, keeps its last answers and sets `problem`. Returns all other errors.
        """
        problems = await self._read_traffic(set(apps))
        told = {app: view.rollout for app, view in self._fresh.items() if view.rollout is not None}
        self._rollouts |= {app: told[app] for app in canaries if app in told}
        unknown = [app for app in canaries if app not in told]  # an earlier version, or an unknown app
        answers = await asyncio.gather(*map(self.read_rollout, unknown), return_exceptions=True)
        problems |= {app: answer for app, answer in zip(unknown, answers, strict=True) if isinstance(answer, str)}
        for app in apps:
            if app in problems:
                self._unanswered[app] = problems[app]
            else:
                self._unanswered.pop(app, None)
        return [answer for answer in answers if isinstance(answer, BaseException)]

    async def read_rollout(self, app: str) -> str | None:
        """Reads the app's rollout from the proxy and returns None. If the proxy does not answer, keeps the rollout as
        it was and returns the reason.
        """
        try:
            answer = await self._proxy.get(f"/apps/{app}/rollout", timeout_s=CALL_S, repeatable=False)
        except Problem as problem:
            if problem.status != 404:
                return problem.detail
            answer = RolloutView(app=app)
        self._rollouts[app] = RolloutView.model_validate(answer)
        return None

    async def _read_traffic(self, apps: set[str]) -> dict[str, str]:
        """Reads and records the traffic of the apps. Returns app → reason for each app whose traffic could not be
        read.
        """
        self._fresh = {}
        try:
            answer = await self._proxy.get("/traffic", timeout_s=CALL_S, repeatable=False)
            views = self._views.of(answer, apps)
        except Problem as problem:
            return dict.fromkeys(apps, problem.detail)
        except (ValidationError, KeyError):
            return dict.fromkeys(apps, UNREADABLE)
        now = self._clock()
        for app in apps - views.keys():
            self._windows.pop(app, None)  # otherwise its last canary would be asked about for ever
        self._fresh = {app: view for app, view in views.items() if view is not None}
        for app, view in self._fresh.items():
            self._windows.setdefault(app, Window()).add(view, now)
        self._traffic.record(self._fresh.values(), now)
        return dict.fromkeys(views.keys() - self._fresh.keys(), UNREADABLE)
