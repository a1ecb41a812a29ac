"""Windows, verdicts and rollouts of a canary analysis, for tests of what is kept and shown of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from services.monitor.alerts.canary_analyses import CanaryAnalysis
from services.monitor.alerts.judged_counters import JudgedCounters
from services.monitor.analysis.judge import Judge
from services.monitor.analysis.lanes.margins import LaneName
from services.monitor.analysis.verdict import CanaryVerdict, Harm
from services.monitor.analysis.window import JudgedWindow, TrackWindow
from shared.canary import CanaryStep
from shared.models import Track
from shared.proxy_models import JudgedTrack, JudgedTraffic, LatencyHistogram, LeftOut, RolloutState, RolloutView
from shared.proxy_models import VerdictResult as Result

AT = datetime(2026, 1, 1, tzinfo=UTC)
LE_MS = (10.0, 100.0, None)
STEPS = [CanaryStep(weight=5, lasts=60), CanaryStep(weight=33, lasts=600)]


def window(
    at_s: float,
    canary: tuple[int, int] = (10, 0),
    stable: tuple[int, int] = (20, 0),
    *,
    seconds: float = 2.0,
    step: int = 0,
    weight: int = 5,
) -> JudgedWindow:
    """Returns a window that ends at `at_s`, with (requests, errors) of each track; all are answered within 10 ms."""

    def track(counts: tuple[int, int]) -> TrackWindow:
        requests, errors = counts
        return TrackWindow(
            requests=requests,
            errors=errors,
            client_errors=1 if requests else 0,
            latency=(requests - errors, errors, 0),
            failing_visitors=errors,
            visitors=requests,
        )

    tracks = {Track.CANARY: track(canary), Track.STABLE: track(stable)}
    return JudgedWindow(at_s=at_s, seconds=seconds, step=step, weight=weight, tracks=tracks)


def harm(name: LaneName = "errors", capital: float = 1.0, **fields: Any) -> Harm:
    given = {"effect": 0.2, "margin": 0.5, "bound": 1.5, "unit": "points"}
    return Harm(name=name, capital=capital, **(given | fields))


def verdict(result: Result = Result.INCONCLUSIVE, score: int = 55, **fields: Any) -> CanaryVerdict:
    counts: Mapping[str, Mapping[Track, int]] = {
        "requests": {Track.CANARY: 130, Track.STABLE: 260},
        "errors": {Track.CANARY: 12, Track.STABLE: 3},
        "client_errors": {Track.CANARY: 1, Track.STABLE: 2},
        "visitors": {Track.CANARY: 41, Track.STABLE: 84},
        "failing_visitors": {Track.CANARY: 9, Track.STABLE: 3},
    }
    latency = {Track.CANARY: {"p50": 12.0, "p90": 40.0}, Track.STABLE: {"p50": 10.0, "p90": 30.0}}
    reason = "errors: 12 of 130 requests to the canary failed (9.2 %), 3 of 260 to production (1.2 %)"
    given: dict[str, Any] = {"reason": reason, "harms": [harm()], "seconds": 250.0, "latency_ms": latency, **counts}
    return CanaryVerdict(result=result, score=score, **(given | fields))


def judged(release: str = "notes-r9", recognised: int = 0, **left_out: int) -> JudgedTraffic:
    histogram = LatencyHistogram(le_ms=list(LE_MS), counts=[0, 0, 0])
    return JudgedTraffic(
        release=release,
        weight=5,
        tracks={track: JudgedTrack(latency=histogram) for track in Track},
        left_out={LeftOut(name): count for name, count in left_out.items()},
        recognised=recognised,
        hang_limit_ms=5000,
    )


@dataclass
class SetJudge(Judge):
    """Says the verdict that it is given."""

    says: CanaryVerdict
    le_ms: tuple[float | None, ...] = LE_MS

    @property
    def failed(self) -> bool:
        return self.says.result is Result.FAIL

    def verdict(self) -> CanaryVerdict:
        return self.says


def analysis(
    says: CanaryVerdict | None = None, of: JudgedTraffic | None = None, release: str = "notes-r9", app: str = "notes"
) -> CanaryAnalysis:
    return CanaryAnalysis(app, release, SetJudge(says or verdict()), AT, JudgedCounters(at=AT), 0, judged=of)


def rollout(release: str | None = "notes-r9", app: str = "notes", **fields: Any) -> RolloutView:
    given = {"release": release, "state": RolloutState.PROGRESSING, "steps": STEPS, "opened_at": AT, "weight": 5}
    return RolloutView(app=app, **(given | fields))


class SetClock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = AT

    def __call__(self) -> datetime:
        return self.now

    def after(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
