"""View models of the pages of instances and alerts. No state is changed here."""

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
    """An instance as it was last seen."""

    seen: Watched
    runs: bool
    highest: Sample | None
    """Its highest figures of the last hour."""


@dataclass
class EnvironmentRow:
    """One environment of an app with its instances, running ones first."""

    app: str
    environment: Environment
    rows: list[InstanceListRow] = field(default_factory=list)
    decisions: Sequence[Decision] = ()


def places(instances: Sequence[Watched], highest: Mapping[str, Sample], now: datetime) -> list[EnvironmentRow]:
    """Groups instances by app and environment, production first. Of those that have gone, the last three are kept."""
    found: dict[tuple[str, bool, Environment], EnvironmentRow] = {}
    for seen in instances:
        key = (seen.app, seen.environment is not Environment.PRODUCTION, seen.environment)
        place = found.setdefault(key, EnvironmentRow(seen.app, seen.environment))
        runs = now - seen.sample.at <= SILENT
        if runs or sum(not row.runs for row in place.rows) < GONE_SHOWN:
            place.rows.append(InstanceListRow(seen, runs, highest.get(seen.id)))
    for place in found.values():
        place.rows.sort(key=lambda row: not row.runs)
    return [found[key] for key in sorted(found)]


class MonitorPages:
    """Renders the pages; `hostname` is that of the request's URL."""

    def __init__(self, settings: SharedSettings) -> None:
        self._templates = Templates(Path(__file__).parent / "templates", settings)

    def instances(self, shown: Sequence[EnvironmentRow], hostname: str | None) -> str:
        return self._templates.render("instances.html", here="Instances", hostname=hostname, places=shown)

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
