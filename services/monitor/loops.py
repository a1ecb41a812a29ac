"""Defines the background loops other than the evaluator, which applies alert rules: they sample instances, abort
canaries, follow events, and delete the stored data of environments that no longer exist.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any

from services.monitor.alerts.alert import AbortState, Alert
from services.monitor.alerts.alert_state import ActiveAlerts
from services.monitor.alerts.evaluator import Clock, Evaluator
from services.monitor.alerts.proxy_figures import CALL_S
from services.monitor.inventory.canary_health import ILL
from services.monitor.retention_store import RetentionStore
from services.monitor.samples.sample_cache import SampleCache
from services.monitor.scaling.scaling_input import EnvironmentKey, Kill, kill_of
from shared.errors import Problem
from shared.events import IDLE_BLOCK_MS, UNUSABLE, EventFollower
from shared.http import ServiceClient
from shared.models import Environment, EnvironmentView, Event, InstanceStats, Page
from shared.proxy_models import RolloutAction

log = logging.getLogger(__name__)

FORGOTTEN_AFTER = timedelta(days=90)  # as long as the build service keeps logs
FORGOTTEN_AT_ONCE = 100


class Sampler:
    """Reads from the deployer (`GET /stats`) the counters of each running instance (memory, CPU, restarts, kills for
    want of memory), and gives them to the cache of samples, from which alert rules, charts and scaling take their
    figures. `problem` is the reason why the deployer did not answer last time; None if it did.
    """

    def __init__(self, deployer: ServiceClient, samples: SampleCache, clock: Clock) -> None:
        self._deployer = deployer
        self._samples = samples
        self._clock = clock
        self.problem: str | None = None

    async def step(self) -> None:
        """Takes one sample (memory, CPU, restarts) of each running instance. If the deployer does not answer, takes no
        sample and keeps the reason in `problem`.
        """
        await self._samples.load_if_possible(self._clock())
        try:
            answer = await self._deployer.get("/stats", timeout_s=CALL_S, repeatable=False)
        except Problem as problem:
            self.problem = problem.detail
            self._samples.missed()
            return
        self._samples.record(Page[InstanceStats].model_validate(answer).items, self._clock())
        self.problem = None


class Aborts:
    """Asks the proxy to abort the rollouts of canaries about which an alert has fired that aborts. Repeats each request
    until the proxy has answered it.
    """

    def __init__(self, proxy: ServiceClient, alerts: ActiveAlerts, clock: Clock) -> None:
        self._proxy = proxy
        self._alerts = alerts
        self._clock = clock

    async def step(self) -> None:
        """Sends the proxy one request for each canary release whose alerts want an abort. The answer 200 sets the abort
        of these alerts to `confirmed`. 404 and 409 set it to `obsolete`, because the rollout of the release has ended
        already. After any other answer, or none, the next step sends the request again.
        """
        wanted: dict[tuple[str, str], list[Alert]] = {}
        for alert in self._alerts.wanted_aborts():
            wanted.setdefault((alert.app, alert.release), []).append(alert)
        await asyncio.gather(*(self._abort(app, release, alerts) for (app, release), alerts in wanted.items()))

    async def _abort(self, app: str, release: str, alerts: list[Alert]) -> None:
        reason = f"{alerts[0].rule}: {alerts[0].abort_reason}"
        try:
            body = RolloutAction(release=release, reason=reason, evidence=alerts[0].evidence())
            await self._proxy.post(f"/apps/{app}/rollout/abort", body.model_dump(mode="json"), timeout_s=CALL_S)
        except Problem as problem:
            if problem.status not in (404, 409):
                log.warning("the abort of %s is not confirmed, it is repeated: %s", release, problem.detail)
                return
            outcome, detail = AbortState.OBSOLETE, problem.detail
        else:
            log.info("%s is aborted: %s", release, reason)
            outcome, detail = AbortState.CONFIRMED, alerts[0].abort_reason
        for alert in alerts:
            self._alerts.settle(alert, outcome, self._clock(), detail)


class Retention:
    """Deletes the scaling policy, the scaling decisions and the release context (addresses and commits for messages) of
    environments that no longer exist: the deployer has listed no instance of them for 90 days and has no release there.
    """

    def __init__(
        self,
        deployer: ServiceClient,
        samples: SampleCache,
        store: RetentionStore,
        clock: Clock,
        trusts_clock: Callable[[datetime], Awaitable[bool]],
    ) -> None:
        self._deployer = deployer
        self._trusts_clock = trusts_clock
        self._samples = samples
        self._store = store
        self._clock = clock

    async def step(self) -> None:
        """Deletes the stored data of environments that no longer exist, at most 100 in one step. Does nothing while the
        deployer does not answer.
        """
        if not self._samples.answers:
            return
        now = self._clock()
        seen = {EnvironmentKey(stats.app, stats.environment) for stats in self._samples.stats()}
        await self._store.note_seen(seen, now)
        if not await self._trusts_clock(now):
            return  # a clock that was set forward makes all that does not run seem gone for long
        for key in await self._store.unseen_since(now - FORGOTTEN_AFTER, limit=FORGOTTEN_AT_ONCE):
            if await self._has_release(key):
                await self._store.note_seen([key], now)
            else:
                await self._store.forget(key)
                log.info("%s is gone: its scaling policy, decisions and release context are deleted", key)

    async def _has_release(self, key: EnvironmentKey) -> bool:
        """Returns True if a release of the environment is live, starting or pending. Raises Problem if the deployer
        does not answer.
        """
        try:
            answer = await self._deployer.get(f"/apps/{key.app}/environments/{key.environment}", timeout_s=CALL_S)
        except Problem as problem:
            if problem.status == 404:
                return False
            raise
        return EnvironmentView.model_validate(answer).release is not None


class RegistryFollower:
    """Handles events about instances, releases, rollouts and artifacts at once. The evaluator, which reads the
    registry, would find most of these changes a second later, but not those that happened while no monitor was running.
    `on_kill` is called for each kill of an instance at its memory limit, possibly more than once; `on_removed` for each
    removal of an environment or app, and `on_rollout` for each event about a rollout.
    """

    ILL = frozenset(f"instance.{state}" for state in ILL)
    REMOVED = frozenset({"environment.removed", "app.removed"})
    ARTIFACT = frozenset({"artifact.lost", "artifact.found"})
    CHANGES = ("instance.", "release.", "rollout.")
    ENDED = frozenset({"release.retired", "release.rolled_back", "release.failed"})

    def __init__(
        self,
        events: EventFollower,
        evaluator: Evaluator,
        samples: SampleCache,
        on_kill: Callable[[EnvironmentKey, Kill], None],
        on_removed: Callable[[Event], Awaitable[None]],
        on_rollout: Callable[[Event], Awaitable[None]],
        clock: Clock,
    ) -> None:
        self._events = events
        self._evaluator = evaluator
        self._samples = samples
        self._on_kill = on_kill
        self._on_removed = on_removed
        self._on_rollout = on_rollout
        self._clock = clock

    async def step(self, block_ms: int = IDLE_BLOCK_MS) -> None:
        """Handles the next events, waiting up to `block_ms` milliseconds for them. If an event cannot be handled now,
        raises the error, and the next call reads the event again. An event that can never be handled is logged and
        skipped.
        """
        for entry_id, event in await self._events.read(block_ms):
            try:
                await self._handle(event)
            except UNUSABLE as error:
                await self._events.skip(entry_id, error)
            else:
                await self._events.confirm(entry_id)

    async def _handle(self, event: Event) -> None:
        if event.type.startswith(self.CHANGES):
            self._evaluator.expect_change()
        if kill := kill_of(event, self._clock()):
            self._on_kill(*kill)
        if event.type in self.ILL:
            await self._on_ill(event)
        elif event.type in self.ENDED and _environment(event) == Environment.PRODUCTION:
            self._evaluator.end(event.id, event.reason or f"{event.id}: {event.type}")
        elif event.type == "environment.stopped" and _environment(event) == Environment.PRODUCTION:
            self._evaluator.end(str((event.model_extra or {}).get("release", "")), event.reason)
        elif event.type in self.ARTIFACT:
            lost = event.type == "artifact.lost"
            await self._evaluator.on_artifact(event.app, _environment(event), event.id, event.reason, lost=lost)
        elif event.type.startswith("rollout."):
            await self._on_rollout(event)
        elif event.type in self.REMOVED:
            if event.type == "app.removed" or _environment(event) == Environment.PRODUCTION:
                self._evaluator.forget(event.app)
            await self._on_removed(event)

    async def _on_ill(self, event: Event) -> None:
        extra: dict[str, Any] = event.model_extra or {}
        release = event.id.rpartition("-")[0]  # instance ids are `<release>-<n>`
        reason = event.reason or f"instance {event.id}: {event.type}"
        if extra.get("oom_killed"):
            if extra.get("memory_limit", 0) < extra.get("max_memory", 0):
                self._evaluator.excuse(event.id)  # it is given more memory; `restarts` finds it if that does not help
                return
            self._samples.restart_history.note_kill(release, reason, event.at)
        await self._evaluator.on_ill_instance(event, _environment(event), release, reason)


def _environment(event: Event) -> Environment:
    environment = (event.model_extra or {}).get("environment")
    return Environment.PRODUCTION if environment == Environment.PRODUCTION else Environment.CANARY
