"""Evaluates the alert rules for every release that gets visitors: canaries with a rollout, and production."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from services.monitor.alerts.alert import ending
from services.monitor.alerts.alert_state import ActiveAlerts
from services.monitor.alerts.canary_analyses import CanaryAnalyses
from services.monitor.alerts.proxy_figures import CALL_S, ProxyFigures
from services.monitor.alerts.readings import (
    Readings,
    ReadingSources,
    canary_readings,
    compared_readings,
    production_readings,
)
from services.monitor.inventory.inventory import Inventory
from services.monitor.rules.comparison import against_production
from services.monitor.rules.rule import Metric, Reading, Rule
from services.monitor.samples.sample_cache import SampleCache
from shared.errors import Problem, Unavailable
from shared.http import ServiceClient
from shared.models import Environment, Event, InstanceState
from shared.registry import RegistryView

log = logging.getLogger(__name__)

Clock = Callable[[], datetime]
Wake = Callable[[], None]
PRODUCTION_INTERVAL = timedelta(seconds=1.9)  # interval for apps without a canary; steps are a little early or late
AT_ONCE = 20  # apps that are evaluated before other loops, such as the one that aborts, get a turn


class Evaluator:
    """Evaluates alert rules with figures of deployer and proxy, and updates the alerts. Only the first call of `step`
    waits for Redis, for a few seconds at most. `wake` is called when an alert has changed, so that an abort that it
    requests is sent and the alert is stored.
    """

    def __init__(
        self,
        deployer: ServiceClient,
        figures: ProxyFigures,
        samples: SampleCache,
        inventory: Inventory,
        alerts: ActiveAlerts,
        analyses: CanaryAnalyses,
        clock: Clock,
        wake: Wake,
    ) -> None:
        self._deployer = deployer
        self._figures = figures
        self._samples = samples
        self._alerts = alerts
        self._analyses = analyses
        self._clock = clock
        self._wake = wake
        self._inventory = inventory
        self._evaluated: set[str] = set()
        self._all_evaluated_at: datetime | None = None
        self._unevaluated: list[Rule] = []
        self._registry_read_at: datetime | None = None
        self._change_expected_at: datetime | None = None

    async def step(self) -> None:
        """Evaluates the rules once: for the apps that have a canary or were never evaluated, and every 2 s for all
        apps. An empty registry of instances ends no alert.
        """
        await self._alerts.load_if_possible()
        await self._inventory.load_if_possible()
        await self._find_instances()
        with_canary = self._with_canary()
        apps = self._inventory.apps() | with_canary
        self._figures.keep(apps)
        self._analyses.keep(apps)
        self._evaluated &= apps
        rules, now = self._alerts.rules(), self._clock()
        self._unevaluated = [rule for rule in self._unevaluated if rule in rules]
        due = with_canary | apps - self._evaluated
        if not _just_now(self._all_evaluated_at, now):
            due, self._all_evaluated_at = apps, now  # all apps in one step, since each step reads the traffic of all
        if due:
            await self._evaluate_all(due, with_canary)

    def expect_change(self) -> None:
        """Makes each call of `step` within the next 2 s read the registry of instances. It is called after an event
        about an instance, a release or a rollout, because the registry may change a moment after the event.
        """
        self._change_expected_at = self._clock()

    async def on_ill_instance(self, event: Event, environment: Environment, release: str, reason: str) -> None:
        """Evaluates the health rules at once, after the event that an instance of the release is unhealthy or has
        failed. For a canary, reads the registry first, since production may be ill, too. Does nothing if the release is
        neither live in production nor in an active rollout. Raises Unavailable if the proxy does not say whether it is
        in one; the event must then be handled again.
        """
        if environment == Environment.PRODUCTION:
            self._inventory.canary_health.note_production(event.id, event.at)
        if not await self._is_watched(event.app, environment, release):
            return
        readings: Readings = {
            Metric.HEALTH: lambda: Reading(1, reason),
            Metric.MEMORY_AT_CAP: lambda: self._samples.memory_at_cap(release, self._clock()),
        }
        if environment == Environment.CANARY:
            state = InstanceState(event.type.removeprefix("instance."))
            now = self._clock()
            self._inventory.canary_health.suspect(event.app, release, event.id, state, event.at, reason, now)
            await self._read_registry()
            readings[Metric.HEALTH] = lambda: self._inventory.health(event.app, environment, release, self._clock())
        self._apply(event.app, environment, release, readings)

    async def on_artifact(self, app: str, environment: Environment, release: str, reason: str, *, lost: bool) -> None:
        """Applies the rule about lost artifacts, after the event that the artifact of a live release is lost (`lost`)
        or was found again. Does nothing if the release is neither live in production nor in an active rollout. Raises
        Unavailable if the proxy does not say whether it is in one; the event must then be handled again.
        """
        if environment == Environment.PRODUCTION:
            self._inventory.remember(app, release)
        if await self._is_watched(app, environment, release):
            self._apply(app, environment, release, {Metric.ARTIFACT_LOST: lambda: Reading(float(lost), reason)})

    async def _is_watched(self, app: str, environment: Environment, release: str) -> bool:
        if environment == Environment.PRODUCTION:
            return self._inventory.live(app) == release
        problem = await self._figures.read_rollout(app)
        rollout = self._figures.rollout(app)
        if problem and (rollout is None or rollout.release != release):
            raise Unavailable(f"the proxy does not say whether {release} is being rolled out: {problem}")
        return self._figures.current_release(app) == release

    def excuse(self, instance: str) -> None:
        """Excludes the instance from the health rules for 10 minutes: it was killed at its memory limit, and the limit
        can still be raised.
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
        alerted = {alert.app for alert in self._alerts.open_alerts() if alert.environment == Environment.CANARY}
        return self._inventory.with_canary() | self._figures.with_canary() | alerted

    async def _find_instances(self) -> None:
        """Reads the deployer's registry of instances: in every step while there is a canary or the deployer does not
        answer, otherwise every 2 s and after an event. If the deployer does not answer, the last instances are kept and
        their health is unknown. After a restart of the monitor, the release of an open production alert counts as live
        until the registry names another one.
        """
        for alert in sorted(self._alerts.open_alerts(), key=lambda alert: alert.since, reverse=True):
            if alert.environment == Environment.PRODUCTION:
                self._inventory.remember(alert.app, alert.release)
        if self._inventory.answers and not self._with_canary() and not self._registry_is_due():
            return
        await self._read_registry()

    async def _read_registry(self) -> None:
        self._registry_read_at = self._clock()
        try:
            answer = await self._deployer.get("/registry", timeout_s=CALL_S, repeatable=False)
        except Problem:
            self._inventory.missed(self._clock())
        else:
            registry = RegistryView.model_validate(answer)
            self._inventory.record(registry.instances, self._clock(), registry.probes)

    def _registry_is_due(self) -> bool:
        now = self._clock()
        return not _just_now(self._registry_read_at, now) or _just_now(self._change_expected_at, now)

    async def _evaluate_all(self, due: set[str], with_canary: set[str]) -> None:
        """Evaluates the rules for the apps in `due`, those with a canary first, with the data that can be read. Raises
        the first error, after all apps were evaluated.
        """
        canaries = sorted(due & with_canary)
        errors = await self._figures.read(due, canaries)
        for place, app in enumerate([*canaries, *sorted(due - with_canary)]):
            if place and place % AT_ONCE == 0:
                await asyncio.sleep(0)
            try:
                self._evaluated.add(app)
                self._evaluate_canary(app)
                self._evaluate_production(app)
            except Exception as error:
                errors.append(error)
        if errors:
            raise errors[0]

    def _evaluate_canary(self, app: str) -> None:
        rollout = self._figures.rollout(app)
        if rollout is None:
            return
        release = self._figures.current_release(app)
        current = {release} if release else set()
        if self._alerts.end_others(app, Environment.CANARY, current, self._clock(), ending(rollout)):
            self._wake()
        if release is None:
            self._analyses.end(app)
            return
        joined_at = self._inventory.last_ready_at(app, Environment.CANARY, release)
        self._analyses.record(rollout, self._figures.fresh(app), joined_at)
        self._apply(app, Environment.CANARY, release, canary_readings(self._sources(app), app, release))

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
        return ReadingSources(self._inventory, self._samples, self._figures.window(app), self._analyses, self._clock())

    def _apply(self, app: str, environment: Environment, release: str, readings: Readings) -> None:
        """Evaluates the rules that apply to the release. A rule that raises an error is logged once and does not stop
        the others.
        """
        now = self._clock()
        changed = False
        is_canary = environment == Environment.CANARY
        production = compared_readings(self._sources(app), app, release) if is_canary else {}
        for rule in self._alerts.rules():
            if rule.metric not in readings or not rule.concerns(app, environment):
                continue
            try:
                reading = _compared(rule, readings, production)
                changed |= self._alerts.apply(app, environment, release, rule, reading, now)
            except Exception:
                if rule not in self._unevaluated:
                    log.exception("rule %s cannot be judged about %s; replace or delete it", rule.name, release)
                    self._unevaluated.append(rule)
        if changed:
            self._wake()


def _compared(rule: Rule, readings: Mapping[Metric, Callable[[], Reading]], production: Readings) -> Reading:
    reading = readings[rule.metric]()
    return against_production(rule, reading, production[rule.metric]()) if rule.metric in production else reading


def _just_now(at: datetime | None, now: datetime) -> bool:
    """Returns True if `at` and `now` differ by less than 2 s, in either direction: after the clock was set back, `at`
    lies in the future.
    """
    return at is not None and abs(now - at) < PRODUCTION_INTERVAL
