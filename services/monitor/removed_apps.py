"""Deletes the monitor's data of environments and apps that were removed."""

import logging
from collections.abc import Awaitable, Callable

from services.monitor.alerts.alert_state import ActiveAlerts
from services.monitor.alerts.canary_analyses import CanaryAnalyses
from services.monitor.notify.notifier_store import NotifierStore
from services.monitor.retention_store import RetentionStore
from services.monitor.samples.sample_cache import SampleCache
from services.monitor.samples.traffic_cache import TrafficCache
from services.monitor.scaling.scaling_input import EnvironmentKey
from shared.models import Environment, Event

log = logging.getLogger(__name__)


class RemovedApps:
    """Deletes the monitor's data of an environment or app after the event `environment.removed` or `app.removed`, which
    may come more than once. Messages that are already queued are still sent. `forget_scaling` drops what the scaling
    loop remembers of an environment; `forget_evidence` deletes the records of an app's canary analyses, and the app's
    own metrics and hooks.
    """

    def __init__(
        self,
        samples: SampleCache,
        traffic: TrafficCache,
        alerts: ActiveAlerts,
        analyses: CanaryAnalyses,
        silences: NotifierStore,
        retention: RetentionStore,
        forget_scaling: Callable[[EnvironmentKey], None],
        forget_evidence: Callable[[str], Awaitable[None]],
    ) -> None:
        self._samples = samples
        self._traffic = traffic
        self._alerts = alerts
        self._analyses = analyses
        self._silences = silences
        self._retention = retention
        self._forget_scaling = forget_scaling
        self._forget_evidence = forget_evidence

    async def on_event(self, event: Event) -> None:
        """Deletes the data of the environment or app that the event names; ignores events of other types. Raises
        RedisError; the event must then be handled again.
        """
        if event.type == "environment.removed":
            environment = (event.model_extra or {}).get("environment", "")
            await self._forget(EnvironmentKey(event.app, Environment(environment)))
        elif event.type == "app.removed":
            for each in Environment:
                await self._forget(EnvironmentKey(event.app, each))
            self._alerts.forget(event.app, event.at, event.reason or f"the app {event.app} was removed")
            self._traffic.forget(event.app)
            await self._samples.forget(event.app)
            await self._analyses.forget(event.app)
            await self._silences.forget(event.app)
            await self._forget_evidence(event.app)
            log.info("%s was removed: its policies, silences, alerts, analyses and samples are deleted", event.app)

    async def _forget(self, key: EnvironmentKey) -> None:
        self._samples.drop(key.app, key.environment)
        self._forget_scaling(key)
        await self._retention.forget(key)
