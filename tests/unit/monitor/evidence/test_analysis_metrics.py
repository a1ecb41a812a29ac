"""Verdicts about open rollouts and the causes of aborts are exported to Prometheus, the causes from a fixed set."""

from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from redis.asyncio import Redis

from services.monitor.evidence.analysis_metrics import AnalysisCollector, cause_of
from services.monitor.evidence.evidence_store import EvidenceStore
from services.monitor.evidence.recorder import EvidenceRecorder
from shared.models import Event
from tests.support.monitor.analysed import AT, SetClock, analysis, harm, verdict, window

FOUND = verdict(harms=[harm(capital=3), harm("gross errors", capital=120)])


def aborted(reason: str = "why", **evidence: Any) -> Event:
    return Event(type="rollout.aborted", app="notes", at=AT, id="notes-r9", reason=reason, evidence=evidence)


@pytest.mark.parametrize(
    ("event", "cause"),
    [
        (aborted(rule="analysis", seen={"verdict": FOUND.model_dump(mode="json")}), ("analysis", "gross errors")),
        (aborted(rule="analysis", seen={"own_check": "x", "verdict": FOUND.model_dump()}), ("analysis", "own check")),
        (aborted(rule="analysis", seen=7), ("analysis", "")),
        (aborted(rule="health"), ("health", "")),
        (aborted(rule="a-rule-of-people"), ("other", "")),
        (aborted("superseded"), ("superseded", "")),
        (aborted("release failed: exit 1"), ("release", "")),
        (aborted("I do not like it"), ("by-hand", "")),
    ],
)
def test_the_cause_of_an_abort_is_one_of_a_few(event: Event, cause: tuple[str, str]) -> None:
    assert cause_of(event) == cause


def test_open_rollouts_and_aborts_are_exported(redis: Redis) -> None:
    recorder = EvidenceRecorder(EvidenceStore(redis), lambda release: [], SetClock())
    collector = AnalysisCollector(recorder)
    recorder.on_window(analysis(FOUND), window(2))
    for event in (aborted(rule="health"), aborted(rule="health"), Event(type="rollout.paused", app="notes", at=AT)):
        collector.on_event(event)
    registry = CollectorRegistry()
    registry.register(collector)

    labels = 'app="notes",release="notes-r9"'
    assert [line for line in generate_latest(registry).decode().splitlines() if not line.startswith("#")] == [
        'slipway_rollout_aborts_total{harm="",rule="health"} 2.0',
        f"slipway_analysis_score{{{labels}}} 55.0",
        f'slipway_analysis_verdict{{{labels},result="pass"}} 0.0',
        f'slipway_analysis_verdict{{{labels},result="fail"}} 0.0',
        f'slipway_analysis_verdict{{{labels},result="inconclusive"}} 1.0',
        'slipway_analysis_capital{app="notes",harm="errors",release="notes-r9"} 3.0',
        'slipway_analysis_capital{app="notes",harm="gross errors",release="notes-r9"} 120.0',
    ]
