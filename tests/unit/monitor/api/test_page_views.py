"""The page of instances shows running instances and the last ones that ended, in order, and escapes all values."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from services.monitor.alerts.alert import Alert, AlertState
from services.monitor.api.page_views import MonitorPages, by_environment
from services.monitor.samples.sample import Sample, Watched
from shared.config import SharedSettings
from shared.models import Environment, InstanceState

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def watched(
    id: str, ago_s: float = 1, app: str = "notes", environment: Environment = Environment.PRODUCTION
) -> Watched:
    sample = Sample(
        at=NOW - timedelta(seconds=ago_s), cpu=None, working_set=32 * 2**20, memory_limit=64 * 2**20, memory=0.5
    )
    return Watched(
        id=id,
        app=app,
        environment=environment,
        release=id.rpartition("-")[0],
        component="web",
        state=InstanceState.READY,
        started_at=NOW - timedelta(hours=1),
        sample=sample,
    )


def test_environments_come_by_app_with_production_first_and_what_runs_before_what_has_gone() -> None:
    shown = by_environment(
        [
            watched("notes-r2-1", environment=Environment.CANARY),
            watched("notes-r1-1", ago_s=11),
            watched("notes-r1-2"),
            watched("album-r1-1", app="album"),
        ],
        NOW,
    )
    assert [(row.app, row.environment) for row in shown] == [
        ("album", "production"),
        ("notes", "production"),
        ("notes", "canary"),
    ]
    assert [(row.instance.id, row.runs) for row in shown[1].rows] == [("notes-r1-2", True), ("notes-r1-1", False)]


def test_of_the_instances_that_have_gone_the_last_three_are_shown() -> None:
    (environment,) = by_environment([watched(f"notes-r1-{number}", ago_s=60) for number in range(9, 0, -1)], NOW)
    assert [row.instance.id for row in environment.rows] == ["notes-r1-9", "notes-r1-8", "notes-r1-7"]


def test_the_page_tells_figures_in_words_and_escapes_them(tmp_path: Path) -> None:
    rows = by_environment([watched("<b>notes</b>-1")], NOW)
    page = MonitorPages(SharedSettings(home=tmp_path)).instances(rows, None, "127.0.0.1")
    assert "32 MiB (50 %)" in page and "64 MiB" in page
    assert "<b>notes</b>" not in page and "&lt;b&gt;notes&lt;/b&gt;-1" in page
    assert 'href="//127.0.0.1:3003/"' in page


def test_alerts_of_the_platform_are_shown_while_redis_is_away(tmp_path: Path) -> None:
    alerts = [
        Alert(
            **{"id": f"{rule}:{service or 'platform'}", "rule": rule, "app": "", "environment": None, "release": ""},
            **{"service": service, "state": AlertState.FIRING, "reason": "why", "since": NOW, "active_at": NOW},
        )
        for rule, service in (("disk", ""), ("service", "build"))
    ]
    problem = "Redis does not answer (ConnectionError): silences and messages cannot be shown."
    page = MonitorPages(SharedSettings(home=tmp_path)).alerts(alerts, [], [], [], "127.0.0.1", problem)
    assert "2 firing" in page
    assert ">the platform</td>" in page and ">the platform · build</td>" in page
    assert f'<p role="alert">{problem}</p>' in page and "Nobody has been written to" not in page
