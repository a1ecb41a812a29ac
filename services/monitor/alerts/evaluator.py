"""Evaluates the alert rules for every release that gets visitors: canaries with a rollout, and production."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from pydantic import ValidationError

from services.monitor.alerts.alert import ending
from services.monitor.alerts.alert_state import ActiveAlerts
from services.monitor.alerts.readings import Readings, ReadingSources, canary_readings, production_readings
from services.monitor.alerts.traffic_window import Window
from services.monitor.inventory.inventory import Inventory
from services.monitor.rules.rule import Metric, Reading, Rule
from services.monitor.samples.sample_cache import SampleCache
from services.monitor.samples.traffic_cache import TrafficCache
from services.monitor.samples.traffic_views import TrafficViews
from shared.errors import Problem, Unavailable
from shared.http import ServiceClient
from shared.models import Environment, RegistryView, Track
from shared.proxy_models import AppTraffic, RolloutState, RolloutView

log = logging.getLogger(__name__)

Clock = Callable[[], datetime]
Wake = Callable[[], None]
CALL_S = 1.5  # time-out of a call, which is not retried, since the next step calls again
PRODUCTION_INTERVAL = timedelta(seconds=1.9)  # interval for apps without a canary; steps are a little early or late
UNREADABLE = "the proxy's traffic figures cannot be read; proxy and monitor must be of one version"
CURRENT = frozenset({RolloutState.PROGRESSING, RolloutState.PAUSED})
AT_ONCE = 20  # apps that are evaluated before other loops, such as the one that aborts, get a turn


class Evaluator:
    """Evaluates alert rules with figures of deployer and proxy, and updates the alerts. Only its first step waits for
    Redis. `wake` is called when an alert has changed, so that an abort that it requests is sent and the alert is
    stored.
    """

    def __init__(
        self,
        deployer: ServiceClient,
        proxy: ServiceClient,
        samples: SampleCache,
        traffic: TrafficCache,
        inventory: Inventory,
        alerts: ActiveAlerts,
        clock: Clock,
        wake: Wake,
    ) -> None:
        self._deployer = deployer
        self._proxy = proxy
        self._samples = samples
        self._traffic = traffic
        self._alerts = alerts
        self._clock = clock
        self._wake = wake
        self._inventory = inventory
        self._rollouts: dict[str, RolloutView] = {}
        self._views = TrafficViews()
        self._windows: dict[str, Window] = {}
        self._evaluated: set[str] = set()
        self._all_evaluated_at: datetime | None = None
        self._unanswered: dict[str, str] = {}
        self._unevaluated: list[Rule] = []
        self._registry_read_at: datetime | None = None
        self._change_expected_at: datetime | None = None

    @property
    def proxy_problem(self) -> str | None:
        """Returns the reason why the proxy did not answer last time; None if it did, or was not called."""
        return next(iter(self._unanswered.values()), None)

    @property
    def rollouts(self) -> Mapping[str, RolloutView]:
        """Returns app → its rollout, as last read, for the apps that have or had a canary."""
        return self._rollouts

    async def step(self) -> None:
        """Evaluates the rules once, for the apps that have a canary or were never evaluated; every 2 s for all apps. If
        the registry is empty, no alert is ended because of that.
        """
        await self._alerts.load_if_possible()
        await self._inventory.load_if_possible()
        await self._find_instances()
        with_canary = self._with_canary()
        apps = self._inventory.apps() | with_canary
        self._windows = {app: window for app, window in self._windows.items() if app in apps}
        self._rollouts = {app: rollout for app, rollout in self._rollouts.items() if app in apps}
        self._evaluated &= apps
        self._unanswered = {app: why for app, why in self._unanswered.items() if app in apps}
        rules, now = self._alerts.rules(), self._clock()
        self._unevaluated = [rule for rule in self._unevaluated if rule in rules]
        due = with_canary | apps - self._evaluated
        if not _just_now(self._all_evaluated_at, now):
            due, self._all_evaluated_at = apps, now  # all apps in one step, since each step reads the traffic of all
        if due:
            await self._evaluate_all(due, with_canary)

    def expect_change(self) -> None:
        """Makes the next steps read the registry, for 2 s. It is called after an event about an instance, a release or
        a rollout, because the registry may change a moment after the event.
        """
        self._change_expected_at = self._clock()

    async def on_ill_instance(self, app: str, environment: Environment, release: str, reason: str) -> None:
        """Evaluates the health rules at once, after an event that an instance of the release is unhealthy or has
        failed. Does nothing if the release neither has an active rollout nor is live. Raises Unavailable if the proxy
        does not tell whether it has one; the event must then be handled again.
        """
        if not await self._is_watched(app, environment, release):
            return
        ill: Readings = {
            Metric.HEALTH: lambda: Reading(1, reason),
            Metric.MEMORY_AT_CAP: lambda: self._samples.memory_at_cap(release, self._clock()),
        }
        self._apply(app, environment, release, ill)

    async def on_artifact(self, app: str, environment: Environment, release: str, reason: str, *, lost: bool) -> None:
        """Applies the rule about artifacts after the event that the artifact of a live release is lost, or was found.
        Does nothing, and raises Unavailable, as `on_ill_instance` does.
        """
        if environment == Environment.PRODUCTION:
            self._inventory.remember(app, release)
        if await self._is_watched(app, environment, release):
            self._apply(app, environment, release, {Metric.ARTIFACT_LOST: lambda: Reading(float(lost), reason)})

    async def _is_watched(self, app: str, environment: Environment, release: str) -> bool:
        if environment == Environment.PRODUCTION:
            return self._inventory.live(app) == release
        problem = await self._read_rollout(app)
        rollout = self._rollouts.get(app)
        if problem and (rollout is None or rollout.release != release):
            raise Unavailable(f"the proxy does not say whether {release} is being rolled out: {problem}")
        return rollout is not None and rollout.release == release and rollout.state in CURRENT

    def excuse(self, instance: str) -> None:
        """Excludes the instance from the health check for a time: it was killed at its memory limit, and the limit can
        still be raised.
        """
        self._inventory.excuse(instance, self._clock())

    def end(self, release: str, reason: str) -> None:
        """Ends the alerts of a production release that has ended, and stops evaluating it."""
        self._inventory.end(release)
        if self._alerts.end_release(release, self._clock(), reason):
            self._wake()

    def forget(self, app: str) -> None:
        """Stops evaluating the app's production, because it was removed."""
        self._inventory.forget(app)

    def _with_canary(self) -> set[str]:
        """Returns the apps that have a canary by any sign: in the registry, in a rollout, in an open alert or in the
        traffic.
        """
        under_way = {app for app, rollout in self._rollouts.items() if rollout.state in CURRENT}
        alerted = {alert.app for alert in self._alerts.open_alerts() if alert.environment == Environment.CANARY}
        routed = {app for app, window in self._windows.items() if window.release(Track.CANARY)}
        return self._inventory.with_canary() | under_way | alerted | routed

    async def _find_instances(self) -> None:
        """Reads the registry: in every step while there is a canary or the deployer does not answer, otherwise every 2
        s and after an event. If it does not answer, the last instances are kept and their health is unknown. After a
        restart of the monitor, the release of an open production alert counts as live until the registry names another
        one.
        """
        for alert in sorted(self._alerts.open_alerts(), key=lambda alert: alert.since, reverse=True):
            if alert.environment == Environment.PRODUCTION:
                self._inventory.remember(alert.app, alert.release)
        if self._inventory.answers and not self._with_canary() and not self._registry_is_due():
            return
        self._registry_read_at = self._clock()
        try:
            answer = await self._deployer.get("/registry", timeout_s=CALL_S, repeatable=False)
        except Problem:
            self._inventory.missed()
        else:
            self._inventory.record(RegistryView.model_validate(answer).instances, self._clock())

    def _registry_is_due(self) -> bool:
        now = self._clock()
        return not _just_now(self._registry_read_at, now) or _just_now(self._change_expected_at, now)

    async def _evaluate_all(self, due: set[str], with_canary: set[str]) -> None:
        """Evaluates the rules for the apps in `due`, those with a canary first, with the data that can be read. Raises
        the first error, after all apps were evaluated.
        """
        views, problems = await self._read_traffic(due)
        canaries = sorted(due & with_canary)
        told = {app: view.rollout for app, view in views.items() if view.rollout is not None}
        self._rollouts |= {app: told[app] for app in canaries if app in told}
        unknown = [app for app in canaries if app not in told]  # an earlier version, or an unknown app
        answers = await asyncio.gather(*map(self._read_rollout, unknown), return_exceptions=True)
        errors = [answer for answer in answers if isinstance(answer, BaseException)]
        problems |= {app: answer for app, answer in zip(unknown, answers, strict=True) if isinstance(answer, str)}
        for place, app in enumerate([*canaries, *sorted(due - with_canary)]):
            if place and place % AT_ONCE == 0:
                await asyncio.sleep(0)
            try:
                self._evaluate(app, problems.get(app))
            except Exception as error:
                errors.append(error)
        if errors:
            raise errors[0]

    def _evaluate(self, app: str, problem: str | None) -> None:
        """Evaluates the rules for the app's canary and production. `problem` is the reason why the app's traffic or
        rollout could not be read; None if they were read.
        """
        self._evaluated.add(app)
        if problem:
            self._unanswered[app] = problem
        else:
            self._unanswered.pop(app, None)
        self._evaluate_canary(app)
        self._evaluate_production(app)

    async def _read_traffic(self, due: set[str]) -> tuple[dict[str, AppTraffic], dict[str, str]]:
        """Reads the traffic of the apps in `due` from the proxy, and records it. Returns app → traffic, and app →
        reason for each app whose traffic could not be read.
        """
        try:
            answer = await self._proxy.get("/traffic", timeout_s=CALL_S, repeatable=False)
            views = self._views.of(answer, due)
        except Problem as problem:
            return {}, dict.fromkeys(due, problem.detail)
        except (ValidationError, KeyError):
            return {}, dict.fromkeys(due, UNREADABLE)
        now = self._clock()
        for app in due - views.keys():
            self._windows.pop(app, None)  # otherwise its last canary would be asked about for ever
        readable = {app: view for app, view in views.items() if view is not None}
        for app, view in readable.items():
            self._windows.setdefault(app, Window()).add(view, now)
        self._traffic.record(readable.values(), now)
        return readable, dict.fromkeys(views.keys() - readable.keys(), UNREADABLE)

    async def _read_rollout(self, app: str) -> str | None:
        """Reads the app's rollout and returns None. If the proxy does not answer, keeps the last state and returns the
        reason.
        """
        try:
            answer = await self._proxy.get(f"/apps/{app}/rollout", timeout_s=CALL_S, repeatable=False)
        except Problem as problem:
            if problem.status != 404:
                return problem.detail
            answer = RolloutView(app=app)
        self._rollouts[app] = RolloutView.model_validate(answer)
        return None

    def _evaluate_canary(self, app: str) -> None:
        rollout = self._rollouts.get(app)
        if rollout is None:
            return
        release = rollout.release if rollout.state in CURRENT else None
        current = {release} if release else set()
        if self._alerts.end_others(app, Environment.CANARY, current, self._clock(), ending(rollout)):
            self._wake()
        if release:
            readings = canary_readings(self._sources(app), app, release)
            self._apply(app, Environment.CANARY, release, readings)

    def _evaluate_production(self, app: str) -> None:
        release = self._inventory.live(app)
        ready = self._inventory.ready(app) if self._inventory.answers else set()
        reason = f"production runs {release} now"
        if self._alerts.end_others(app, Environment.PRODUCTION, ready or None, self._clock(), reason):
            self._wake()
        if release:
            readings = production_readings(self._sources(app), app, release)
            self._apply(app, Environment.PRODUCTION, release, readings)

    def _sources(self, app: str) -> ReadingSources:
        window = self._windows.get(app, Window())
        return ReadingSources(self._inventory, self._samples, window, self._clock())

    def _apply(self, app: str, environment: Environment, release: str, readings: Readings) -> None:
        """Evaluates the rules that apply to the release. A rule that raises an error is logged once and does not stop
        the others.
        """
        now = self._clock()
        changed = False
        for rule in self._alerts.rules():
            if rule.metric not in readings or not rule.concerns(app, environment):
                continue
            try:
                changed |= self._alerts.apply(app, environment, release, rule, readings[rule.metric](), now)
            except Exception:
                if rule not in self._unevaluated:
                    log.exception("rule %s cannot be judged about %s; replace or delete it", rule.name, release)
                    self._unevaluated.append(rule)
        if changed:
            self._wake()


def _just_now(at: datetime | None, now: datetime) -> bool:
    """Returns True if `at` and `now` differ by less than 2 s; `at` is far after `now` if the clock was set back."""
    return at is not None and abs(now - at) < PRODUCTION_INTERVAL
