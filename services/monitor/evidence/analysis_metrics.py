"""Exports canary analyses to Prometheus: the verdicts about open rollouts, and how many were aborted and why."""

from collections import Counter
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from services.monitor.alerts.canary_analyses import OWN_CHECK
from services.monitor.analysis.verdict import CanaryVerdict
from services.monitor.evidence.recorder import EvidenceRecorder, verdict_in
from services.monitor.rules.rule import DEFAULTS
from shared.models import Event
from shared.proxy_models import VerdictResult

ANALYSIS = "analysis"
LABELS = ["app", "release"]
OTHER_RULE, BY_HAND, SUPERSEDED, RELEASE = "other", "by-hand", "superseded", "release"


class AnalysisCollector(Collector):
    """Exports to Prometheus the last verdict about each open rollout, and the number of aborted rollouts since the
    monitor started. That number has the labels `rule`, the alert rule that aborted (`other` for people's own rules),
    and `harm`, which is empty unless the canary analysis aborted.
    """

    def __init__(self, recorder: EvidenceRecorder) -> None:
        self._recorder = recorder
        self._aborts: Counter[tuple[str, str]] = Counter()

    def on_event(self, event: Event) -> None:
        """Counts the rollout as aborted, if the event says that it was."""
        if event.type == "rollout.aborted":
            self._aborts[cause_of(event)] += 1

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        aborts = CounterMetricFamily("slipway_rollout_aborts", "Rollouts aborted.", labels=["rule", "harm"])
        for cause, count in sorted(self._aborts.items()):
            aborts.add_metric(cause, count)
        score = GaugeMetricFamily("slipway_analysis_score", "Score of an open rollout, 0 to 100.", labels=LABELS)
        result = GaugeMetricFamily(
            "slipway_analysis_verdict", "1 for the verdict about an open rollout, else 0.", labels=[*LABELS, "result"]
        )
        capital = GaugeMetricFamily(
            "slipway_analysis_capital",
            "Evidence for a harm of an open rollout; 100 fails the canary.",
            labels=[*LABELS, "harm"],
        )
        for record in self._recorder.open():
            if (verdict := record.verdict) is not None:
                labels = [record.app, record.release]
                score.add_metric(labels, verdict.score)
                for each in VerdictResult:
                    result.add_metric([*labels, each], float(verdict.result is each))
                for harm in verdict.harms:
                    capital.add_metric([*labels, harm.name], harm.capital)
        yield from (aborts, score, result, capital)


def cause_of(event: Event) -> tuple[str, str]:
    """Returns the labels (rule, harm) of an aborted rollout. The first is the rule that aborted it (`other` for
    people's own rules) or, if no rule did, `by-hand`, `superseded`, or `release` (the release ended). The second is the
    kind of harm if the rule was the canary analysis, else empty. Both come from fixed sets.
    """
    fields = event.model_extra or {}
    evidence = fields["evidence"] if isinstance(fields.get("evidence"), dict) else {}
    rule = evidence.get("rule")
    if rule is None:
        if event.reason == SUPERSEDED:
            return SUPERSEDED, ""
        return (RELEASE, "") if event.reason.startswith("release ") else (BY_HAND, "")
    if rule != ANALYSIS:
        return (rule if rule in DEFAULTS else OTHER_RULE), ""
    seen, verdict = evidence.get("seen"), verdict_in(evidence)
    is_own = isinstance(seen, dict) and OWN_CHECK in seen
    return rule, "own check" if is_own else _harm(verdict) if verdict else ""


def _harm(verdict: CanaryVerdict) -> str:
    """Returns the kind of harm with the most evidence; empty if there is none."""
    return max(verdict.harms, key=lambda harm: harm.capital).name if verdict.harms else ""
