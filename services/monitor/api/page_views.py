"""Builds the view models of the pages of instances and alerts; changes no state."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from services.monitor.alerts.alert import OPEN, Alert
from services.monitor.dispatch.delivery import MessageDelivery
from services.monitor.notify.silence import Silence
from services.monitor.rules.rule import Rule
from services.monitor.samples.sample import Sample, Watched
from services.monitor.scaling.scaling_decision import Decision
from shared.config import SharedSettings
from shared.models import Environment
from shared.web.pages import Templates

SILENT = timedelta(seconds=10)  # an instance without a sample for so long has gone
GONE_SHOWN = 3
OVER_SHOWN = 30
MESSAGES_SHOWN = 30


@dataclass(frozen=True)
class InstanceListRow:
    """A row of the page of instances, with the instance as it was last seen."""

    instance: Watched
    runs: bool
    highest: Sample | None
    """Highest figures of the last hour."""


@dataclass
class EnvironmentRow:
    """One environment of an app with its instances, running ones first."""

    app: str
    environment: Environment
    rows: list[InstanceListRow] = field(default_factory=list)
    decisions: Sequence[Decision] = ()


def by_environment(instances: Sequence[Watched], highest: Mapping[str, Sample], now: datetime) -> list[EnvironmentRow]:
    """Returns a row for each app and environment, production first. Each shows its running instances and the last three
    that ended. `highest` maps an instance to its largest sample of the last hour."""
    found: dict[tuple[str, bool, Environment], EnvironmentRow] = {}
    for instance in instances:
        key = (instance.app, instance.environment is not Environment.PRODUCTION, instance.environment)
        environment = found.setdefault(key, EnvironmentRow(instance.app, instance.environment))
        runs = now - instance.sample.at <= SILENT
        if runs or sum(not row.runs for row in environment.rows) < GONE_SHOWN:
            environment.rows.append(InstanceListRow(instance, runs, highest.get(instance.id)))
    for environment in found.values():
        environment.rows.sort(key=lambda row: not row.runs)
    return [found[key] for key in sorted(found)]


class MonitorPages:
    """Renders the pages; `hostname` is the host in the request's URL."""

    def __init__(self, settings: SharedSettings) -> None:
        self._templates = Templates(Path(__file__).parent / "templates", settings)

    def instances(self, shown: Sequence[EnvironmentRow], hostname: str | None) -> str:
        return self._templates.render("instances.html", here="Instances", hostname=hostname, environments=shown)

    def alerts(
        self,
        alerts: Sequence[Alert],
        rules: Sequence[Rule],
        silences: Sequence[Silence],
        deliveries: Sequence[MessageDelivery],
        hostname: str | None,
    ) -> str:
        """Renders the page of alerts; `alerts` and `deliveries` are ordered newest first."""
        return self._templates.render(
            "alerts.html",
            here="Alerts",
            hostname=hostname,
            open=[alert for alert in alerts if alert.state in OPEN],
            over=[alert for alert in alerts if alert.state not in OPEN][:OVER_SHOWN],
            rules=rules,
            silences=silences,
            deliveries=deliveries[:MESSAGES_SHOWN],
        )
