"""Builds the content of the pages of instances and alerts. Changes no state."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import urlencode

from services.monitor.alerts.alert import OPEN, Alert
from services.monitor.api.analysis_view import WORDS, AnalysisView
from services.monitor.dispatch.delivery import MessageDelivery
from services.monitor.notify.silence import Silence
from services.monitor.rules.rule import Rule
from services.monitor.samples.sample import Sample, Watched
from services.monitor.scaling.scaling_decision import Decision
from shared.config import SharedSettings
from shared.models import Environment, Page
from shared.web.pages import Templates
from shared.web.paging import time_key

SILENT = timedelta(seconds=10)  # an instance without a sample for so long counts as gone
GONE_SHOWN = 3
OPEN_SHOWN = 50
OVER_SHOWN = 30
RULES_SHOWN = 100
SILENCES_SHOWN = 30
MESSAGES_SHOWN = 30


@dataclass(frozen=True)
class Peak:
    """Holds the highest figures of an instance within the last hour."""

    working_set: int
    """Memory use without page cache that the kernel would drop first, in bytes."""
    cpu: float | None
    """Percent of one core; None if it was never measured."""


@dataclass
class InstanceListRow:
    """Describes a row of the page of instances: an instance with its last sample and its highest figures. `runs` is
    True while it gives samples.
    """

    instance: Watched
    runs: bool
    peak: Peak | None = None


@dataclass
class EnvironmentRow:
    """Describes one environment of an app with its instances, running ones first, and the newest decisions about its
    memory limit.
    """

    app: str
    environment: Environment
    rows: list[InstanceListRow] = field(default_factory=list)
    decisions: Sequence[Decision] = ()


def by_environment(instances: Sequence[Watched], now: datetime) -> list[EnvironmentRow]:
    """Returns a row for each app and environment, production first. Each contains its running instances and the last
    three that ended. `instances` must be ordered by start, latest first.
    """
    found: dict[tuple[str, bool, Environment], EnvironmentRow] = {}
    for instance in instances:
        key = (instance.app, instance.environment is not Environment.PRODUCTION, instance.environment)
        environment = found.setdefault(key, EnvironmentRow(instance.app, instance.environment))
        runs = now - instance.sample.at <= SILENT
        if runs or sum(not row.runs for row in environment.rows) < GONE_SHOWN:
            environment.rows.append(InstanceListRow(instance, runs))
    for environment in found.values():
        environment.rows.sort(key=lambda row: not row.runs)
    return [found[key] for key in sorted(found)]


def peak(highest: Mapping[str, float], samples: Sequence[Sample]) -> Peak:
    """Returns the highest figures of an instance. `highest` holds figure → maximum of its stored rows; `samples` holds
    the newest samples, which no row contains yet.
    """
    cpus = [highest.get("cpu"), *(sample.cpu for sample in samples)]
    return Peak(
        working_set=max(int(highest.get("working_set", 0)), *(sample.working_set for sample in samples)),
        cpu=max((cpu for cpu in cpus if cpu is not None), default=None),
    )


def key_of(alert: Alert) -> str:
    """Returns the key by which the alert is sorted in the list of alerts: its time, then its id."""
    return time_key(alert.since, alert.id)


class MonitorPages:
    """Renders the HTML pages of instances and alerts. `hostname` is the host in the request's URL, which links to other
    services use.
    """

    def __init__(self, settings: SharedSettings) -> None:
        self._templates = Templates(Path(__file__).parent / "templates", settings)

    def instances(self, shown: Sequence[EnvironmentRow], following: str | None, hostname: str | None) -> str:
        """Renders one page of the list of instances. `following` is the cursor of the next page, None on the last
        one.
        """
        return self._templates.render(
            "instances.html", here="Instances", hostname=hostname, environments=shown, following=following
        )

    def analysis(self, view: AnalysisView, hostname: str | None) -> str:
        """Renders the page of the analysis of a rollout."""
        rollout = self._templates.link(hostname, "proxy", f"/apps/{view.app}/rollout")
        return self._templates.render(
            "analysis.html", here="Canaries", hostname=hostname, of=view, rollout=rollout, words=WORDS
        )

    def alerts(
        self,
        alerts: Sequence[Alert],
        rules: Sequence[Rule],
        silences: Sequence[Silence],
        deliveries: Sequence[MessageDelivery],
        hostname: str | None,
        problem: str = "",
    ) -> str:
        """Renders the overview of alerts. `silences` and `deliveries` must be ordered newest first. `problem` says why
        these two are empty, if they could not be read.
        """
        alerts = sorted(alerts, key=key_of, reverse=True)
        opened = [alert for alert in alerts if alert.state in OPEN]
        over = [alert for alert in alerts if alert.state not in OPEN]
        return self._templates.render(
            "alerts.html",
            here="Alerts",
            hostname=hostname,
            counts=Counter(alert.state for alert in opened),
            open=opened[:OPEN_SHOWN],
            over=over[:OVER_SHOWN],
            older=urlencode({"cursor": key_of(over[OVER_SHOWN - 1])}) if len(over) > OVER_SHOWN else None,
            rules=rules[:RULES_SHOWN],
            all_rules=len(rules),
            silences=silences[:SILENCES_SHOWN],
            all_silences=len(silences),
            deliveries=deliveries,
            problem=problem,
        )

    def alert_list(self, found: Page[Alert], query: Iterable[tuple[str, str]], hostname: str | None) -> str:
        """Renders one page of the list of alerts. `query` holds the parameters of the request's URL, which the link to
        the next page repeats.
        """
        same = [(name, value) for name, value in query if name != "cursor"]
        older = urlencode([*same, ("cursor", found.next)]) if found.next else None
        return self._templates.render(
            "alert_list.html", here="Alerts", hostname=hostname, alerts=found.items, older=older
        )
