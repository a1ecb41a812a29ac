"""The background jobs: sample instances, watch canaries, have them aborted, follow events, store."""

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime
from typing import Any

from services.monitor.alert import AbortState, Alert
from services.monitor.alert_book import AlertBook
from services.monitor.rule import Metric, Reading
from services.monitor.sample_book import SampleBook
from services.monitor.traffic import Window
from shared.errors import Problem
from shared.events import EventFollower
from shared.http import ServiceClient
from shared.models import (
    InstanceRecord,
    InstanceState,
    InstanceStats,
    Page,
    RegistryView,
    RolloutState,
    RolloutView,
    Track,
    TrafficView,
)

log = logging.getLogger(__name__)

Clock = Callable[[], datetime]
Wake = Callable[[], None]
CALL_S = 1.5  # time-out of one try; a part that hangs must not hold up the next look for long
CURRENT = frozenset({RolloutState.PROGRESSING, RolloutState.PAUSED})
ILL = frozenset({InstanceState.UNHEALTHY, InstanceState.FAILED})


async def _ask(client: ServiceClient, path: str) -> Any:
    """Asked once: the loop asks again anyway, and an old answer is worth less than a new question."""
    return await client.call("GET", path, timeout_s=CALL_S, repeatable=False)


class Sampler:
    """Asks the deployer for every instance's counters."""

    def __init__(self, deployer: ServiceClient, samples: SampleBook, clock: Clock) -> None:
        self._deployer = deployer
        self._samples = samples
        self._clock = clock
        self.silent: str | None = None

    async def step(self) -> None:
        """An answer that does not come is no sample: nothing is written, and nothing concluded."""
        try:
            answer = await _ask(self._deployer, "/stats")
        except Problem as problem:
            self.silent = problem.detail
            self._samples.missed()
            return
        self._samples.take(Page[InstanceStats].model_validate(answer).items, self._clock())
        self.silent = None


class Watch:
    """Looks at every canary on its way and takes what it sees into the alerts. Never waits for Redis. `wake` is called
    when an alert changed: there may be an abort to ask for, and something to store.
    """

    def __init__(
        self,
        deployer: ServiceClient,
        proxy: ServiceClient,
        samples: SampleBook,
        alerts: AlertBook,
        clock: Clock,
        wake: Wake,
    ) -> None:
        self._deployer = deployer
        self._proxy = proxy
        self._samples = samples
        self._alerts = alerts
        self._clock = clock
        self._wake = wake
        self._canaries: dict[str, list[InstanceRecord]] = {}
        self._deployer_answers = False
        self._rollouts: dict[str, RolloutView] = {}
        self._windows: dict[str, Window] = {}
        self.proxy_silent: str | None = None  # the proxy is asked only while there is a canary

    async def step(self) -> None:
        """One look at each app that has a canary. An empty registry ends no watch: the rollout's end does."""
        await self._alerts.load_if_possible()
        await self._find_canaries()
        rolling = {app for app, rollout in self._rollouts.items() if rollout.state in CURRENT}
        apps = self._canaries.keys() | rolling | self._alerts.open_apps()
        self._windows = {app: window for app, window in self._windows.items() if app in apps}
        self._rollouts = {app: rollout for app, rollout in self._rollouts.items() if app in apps}
        if not apps:
            self.proxy_silent = None
        for outcome in await asyncio.gather(*(self._look(app) for app in apps), return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome  # after every app has been looked at

    async def strike(self, app: str, release: str, reason: str) -> None:
        """An event said that an instance of the release is ill: acts on it now, not at the next look."""
        rollout = await self._rollout(app)
        if rollout and rollout.release == release and rollout.state in CURRENT:
            self._judge(app, release, {Metric.HEALTH: Reading(1, reason)})

    async def _find_canaries(self) -> None:
        """A deployer that does not answer leaves the canaries that were known; of their health nothing is known."""
        try:
            answer = await _ask(self._deployer, "/registry")
        except Problem:
            self._deployer_answers = False
            return
        instances = RegistryView.model_validate(answer).instances
        self._canaries = {app: tracks[Track.CANARY] for app, tracks in instances.items() if tracks.get(Track.CANARY)}
        self._deployer_answers = True

    async def _look(self, app: str) -> None:
        rollout = await self._rollout(app)
        if rollout is None:
            return
        now = self._clock()
        window = self._windows.setdefault(app, Window())
        release = rollout.release if rollout.state in CURRENT else None
        self._alerts.end_others(app, release, now, _ending(rollout))
        if release is None:
            window.pause(now)
            return
        try:
            answer = await _ask(self._proxy, f"/apps/{app}/traffic")
        except Problem as problem:
            self.proxy_silent = problem.detail
        else:
            window.add(TrafficView.model_validate(answer), release, self._clock())
        now = self._clock()
        records = [record for record in self._canaries.get(app, []) if record.release == release]
        ready = [record.id for record in records if record.state == InstanceState.READY]
        self._judge(
            app,
            release,
            {
                Metric.ERROR_SHARE: window.errors(now),
                Metric.HEALTH: self._health(records),
                Metric.NO_SAMPLES: self._samples.silence(ready, now) if self._deployer_answers else _unknown(),
                Metric.CPU: self._samples.cpu(release),
                Metric.MEMORY: self._samples.memory(release),
            },
        )

    async def _rollout(self, app: str) -> RolloutView | None:
        """As the proxy says; while it does not answer, as it last said."""
        try:
            answer = await _ask(self._proxy, f"/apps/{app}/rollout")
        except Problem as problem:
            if problem.status == 404:
                self._rollouts[app] = RolloutView(app=app)
            else:
                self.proxy_silent = problem.detail
        else:
            self._rollouts[app] = RolloutView.model_validate(answer)
            self.proxy_silent = None
        return self._rollouts.get(app)

    def _health(self, records: list[InstanceRecord]) -> Reading:
        if not self._deployer_answers or not records:
            return _unknown()
        ill = [f"{record.id} is {record.state}" for record in records if record.state in ILL]
        return Reading(len(ill), f"instance {', '.join(ill)}" if ill else "every instance is well")

    def _judge(self, app: str, release: str, readings: dict[Metric, Reading]) -> None:
        now = self._clock()
        rules = [rule for rule in self._alerts.rules() if rule.enabled and rule.metric in readings]
        changes = [self._alerts.look(app, release, rule, readings[rule.metric], now) for rule in rules]
        if any(changes):
            self._wake()


class Aborts:
    """Repeats each abort that an alert asks for, until the proxy has answered it."""

    def __init__(self, proxy: ServiceClient, alerts: AlertBook, clock: Clock) -> None:
        self._proxy = proxy
        self._alerts = alerts
        self._clock = clock

    async def step(self) -> None:
        """One call for each release; an abort of a release that is not current any more is obsolete."""
        wanted: dict[tuple[str, str], list[Alert]] = {}
        for alert in self._alerts.wanted_aborts():
            wanted.setdefault((alert.app, alert.release), []).append(alert)
        await asyncio.gather(*(self._abort(app, release, alerts) for (app, release), alerts in wanted.items()))

    async def _abort(self, app: str, release: str, alerts: list[Alert]) -> None:
        reason = f"{alerts[0].rule}: {alerts[0].abort_reason}"
        try:
            await self._proxy.post(
                f"/apps/{app}/rollout/abort", {"release": release, "reason": reason}, timeout_s=CALL_S
            )
        except Problem as problem:
            if problem.status not in (404, 409):
                log.warning("the abort of %s is not confirmed, it is repeated: %s", release, problem.detail)
                return
            outcome, words = AbortState.OBSOLETE, problem.detail
        else:
            log.info("%s is aborted: %s", release, reason)
            outcome, words = AbortState.CONFIRMED, alerts[0].abort_reason
        for alert in alerts:
            self._alerts.settle(alert, outcome, self._clock(), words)


class Follower:
    """Acts at once on what the deployer tells of a canary's instance. The looks find it too, a second later."""

    TYPES = frozenset(f"instance.{state}" for state in ILL)

    def __init__(self, events: EventFollower, watch: Watch) -> None:
        self._events = events
        self._watch = watch

    async def step(self) -> None:
        """Waits up to a second for events."""
        for entry_id, event in await self._events.read():
            if event.type in self.TYPES:
                release = event.id.rpartition("-")[0]  # instance ids are `<release>-<n>`
                await self._watch.strike(event.app, release, event.reason or f"instance {event.id}: {event.type}")
            await self._events.confirm(entry_id)


def _ending(rollout: RolloutView) -> str:
    if rollout.release is None:
        return "there is no rollout any more"
    why = f": {rollout.reason}" if rollout.reason else ""
    return f"the rollout of {rollout.release} is {rollout.state}{why}"


def _unknown() -> Reading:
    return Reading(None, "the deployer does not answer, or knows no such instance")
