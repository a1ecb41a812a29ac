"""Formats figures and results of the analysis for its page."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from pydantic import Field

from services.monitor.analysis.verdict import CanaryVerdict, two_digits
from services.monitor.checks.check_state import CheckResult, CheckState
from services.monitor.evidence.analysis_record import (
    AnalysisRecord,
    Occasion,
    StepCounts,
    StepFigures,
    VerdictRecord,
    VisitorCounts,
)
from services.monitor.evidence.series import SeriesPoint
from shared.models import Track, View
from shared.proxy_models import LeftOut, VerdictResult

RESULTS = {
    VerdictResult.PASS: "no worse than production, within the margins",
    VerdictResult.FAIL: "worse than production",
    VerdictResult.INCONCLUSIVE: "not known yet",
}
LEFT_OUT = {
    LeftOut.FORCED: "the visitor chose the track, by the header x-canary or the port",
    LeftOut.CAPPED: "the same visitor had sent enough requests in these 2 s",
    LeftOut.UNSAMPLED: "of much traffic, only a part of the visitors counts",
    LeftOut.STREAM: "a stream or an upgraded connection: counted, but without its latency",
}
STATES = {
    CheckResult.UNKNOWN: "pending",
    CheckResult.PASS: "passed",
    CheckResult.BEYOND: "running",
    CheckResult.FAIL: "failed",
    CheckResult.ERROR: "pending",
}
VERDICT_STATES = {VerdictResult.PASS: "passed", VerdictResult.FAIL: "failed", VerdictResult.INCONCLUSIVE: "pending"}
"""Style of each result of a verdict on the page."""


class SeriesItem(View):
    """Holds the figures of production (`stable`) and canary in one interval, which ends at `at`. Shares are in percent;
    figures without a request are null. `errors_at_most` and `p50_at_most_ms` are what the canary's figures may be at
    most, with a confidence of 95 %, by all that was measured until then.
    """

    at: datetime
    seconds: float
    weight: int
    score: int
    canary_requests: int
    stable_requests: int
    canary_errors: float | None = Field(description="Requests of the canary that failed, in percent.")
    stable_errors: float | None
    errors_at_most: float | None
    canary_p50_ms: float | None
    stable_p50_ms: float | None
    p50_at_most_ms: float | None
    canary_p99_ms: float | None
    stable_p99_ms: float | None


class GateView(VerdictRecord):
    title: str = Field(description="What the verdict was given for, and what it was, in words.")


class AnalysisView(View):
    """Describes the analysis of a release's rollout. `series` holds the newest interval first; each is `series_step`
    seconds long.
    """

    app: str
    release: str
    opened_at: datetime
    ended_at: datetime | None
    ended: Occasion | None = Field(description="How the rollout ended; null while it is open.")
    verdict: CanaryVerdict | None = Field(description="The last verdict; null before the first request was counted.")
    verdict_at: datetime | None
    totals: dict[Track, StepCounts]
    visitors: dict[Track, VisitorCounts]
    recognised_share: float | None = Field(
        description="Share of the counted requests whose visitor a cookie told, 0 to 1; null without requests."
    )
    left_out: dict[LeftOut, int]
    sampled_one_in: int
    hang_limit_ms: float = Field(description="Time without an answer after which a request counts as hanging; 0: none.")
    steps: list[StepFigures]
    verdicts: list[GateView] = Field(description="Each verdict that something followed from, newest first.")
    checks: list[CheckState] = Field(description="The app's own metrics and hooks.")
    series: list[SeriesItem]
    series_step: int


def analysis_view(record: AnalysisRecord, points: Sequence[SeriesPoint], checks: Sequence[CheckState]) -> AnalysisView:
    """Returns the answer to a request for the analysis of a rollout. `checks` are the present states of the app's own
    metrics and hooks; for a rollout that has ended, those at its end are shown.
    """
    end = record.verdicts[-1] if record.verdicts and record.ended_at else None
    return AnalysisView(
        **{name: getattr(record, name) for name in SAME},
        ended=end.occasion if end else None,
        verdicts=[GateView(**dict(each), title=title_of(each)) for each in reversed(record.verdicts)],
        checks=list(end.checks if end else checks),
        series=series_items(record.opened_at, points)[::-1],
        series_step=record.point_s,
    )


SAME = (
    *("app", "release", "opened_at", "ended_at", "verdict", "verdict_at", "totals", "visitors", "recognised_share"),
    *("left_out", "sampled_one_in", "hang_limit_ms", "steps"),
)


def series_items(opened_at: datetime, points: Sequence[SeriesPoint]) -> list[SeriesItem]:
    """Converts the stored points of a rollout for charts, oldest first: shares in percent, and upper bounds of the
    canary's figures themselves.
    """
    items, requests, errors = [], 0, 0
    for point in points:
        requests, errors = requests + point.stable.requests, errors + point.stable.errors
        so_far = 100 * errors / requests if requests else 0.0
        at_most = None if point.error_bound is None else round(min(100.0, so_far + point.error_bound), 3)
        p50, slower = point.stable.p50_ms, point.latency_bound
        items.append(
            SeriesItem(
                **{name: getattr(point, name) for name in ("seconds", "weight", "score")},
                at=opened_at + timedelta(seconds=point.at_s),
                canary_requests=point.canary.requests,
                stable_requests=point.stable.requests,
                canary_errors=percent_of(point.canary.errors, point.canary.requests),
                stable_errors=percent_of(point.stable.errors, point.stable.requests),
                errors_at_most=at_most,
                canary_p50_ms=point.canary.p50_ms,
                stable_p50_ms=p50,
                p50_at_most_ms=None if p50 is None or slower is None else round(p50 * (1 + slower / 100), 1),
                canary_p99_ms=point.canary.p99_ms,
                stable_p99_ms=point.stable.p99_ms,
            )
        )
    return items


def percent_of(part: int, whole: int) -> float | None:
    return round(100 * part / whole, 3) if whole else None


def title_of(record: VerdictRecord) -> str:
    """Returns for people what the verdict was given for: `aborted`, `promoted`, `step 2 ended` or `step 2 goes on`."""
    if record.occasion is Occasion.ABORTED:
        return "aborted"
    if record.occasion is Occasion.PROMOTED:
        return "promoted"
    return f"step {record.step + 1} goes on" if record.goes_on else f"step {record.step + 1} ended"


def amount(value: float | None, unit: str) -> str:
    """Formats a harm for people: `0.42 points`, `12 %`, or `-` for None. There are no more than 100 points."""
    if value is None:
        return "-"
    return f"{two_digits(min(value, 100.0) if unit == 'points' else value)} {unit}"


def milliseconds(value: float | None) -> str:
    """Formats a time for people: `12.3 ms`, `840 ms`, or `-` for None."""
    return "-" if value is None else f"{value:.1f} ms" if value < 100 else f"{value:.0f} ms"


def evidence_of(capital: float) -> str:
    """Formats the evidence for a harm for people, 100 is certain; above 1 000, its size says nothing more."""
    return "over 1000" if capital > 1000 else f"{capital:.3g}"


def errors_of(counts: Mapping[Track, StepCounts], track: Track) -> str:
    """Formats the errors of a track (production or canary) for people: `12 of 130 (9.2 %)`."""
    figures = counts.get(track, StepCounts())
    share = percent_of(figures.errors, figures.requests)
    return f"{figures.errors} of {figures.requests}" + ("" if share is None else f" ({two_digits(share)} %)")


WORDS: Mapping[str, Any] = {
    "results": RESULTS,
    "left_out": LEFT_OUT,
    "check_states": STATES,
    "verdict_states": VERDICT_STATES,
    "amount": amount,
    "evidence_of": evidence_of,
    "milliseconds": milliseconds,
    "errors_of": errors_of,
}
"""Words in which the page states figures and results."""
