"""Defines what is kept of the canary analysis of one rollout: figures of its steps, and verdicts. Pure."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum

from pydantic import Field

from services.monitor.analysis.verdict import CanaryVerdict
from services.monitor.analysis.window import JudgedWindow
from services.monitor.checks.check_state import CheckState
from shared.models import Track, View
from shared.proxy_models import JudgedTraffic, LeftOut, VerdictResult

VERDICTS_KEPT = 60  # of 20 steps each may go on and then end
RECOGNISED = "recognised"


class Occasion(StrEnum):
    """Names the occasions on which a verdict about a canary is recorded."""

    GATE = "gate"
    """The time of a step of the rollout was over."""
    ABORTED = "aborted"
    PROMOTED = "promoted"


class StepCounts(View):
    requests: int = 0
    errors: int = 0
    client_errors: int = 0


class StepFigures(View):
    """Holds the figures of one step of a rollout. `weight` is the canary's last share in percent, which people may
    change within a step; `seconds` is the time in which requests were counted.
    """

    step: int = Field(
        description="Number of the step, 0 for the first. After the last step, what is counted has the number after it."
    )
    weight: int
    began_at: datetime
    seconds: float = 0.0
    tracks: dict[Track, StepCounts] = Field({})

    def with_window(self, window: JudgedWindow) -> "StepFigures":
        tracks = {track: self.tracks.get(track, StepCounts()) for track in Track}
        for track, figures in window.tracks.items():
            tracks[track] = StepCounts(
                requests=tracks[track].requests + figures.requests,
                errors=tracks[track].errors + figures.errors,
                client_errors=tracks[track].client_errors + figures.client_errors,
            )
        seconds = round(self.seconds + window.seconds, 1)
        return self.model_copy(update={"weight": window.weight, "seconds": seconds, "tracks": tracks})


class VerdictRecord(View):
    """Holds a verdict about a canary on an occasion: the time of a step was over, or the rollout was aborted or
    promoted. `verdict` holds the evidence for each harm and all counts at that time; it is null if no request had been
    counted. `left_out` holds the number of requests that did not count in the comparison with production, by reason.
    """

    occasion: Occasion
    at: datetime
    step: int
    weight: int
    result: VerdictResult | None = None
    score: int | None = None
    reason: str = Field(description="Why the step, or the rollout, ended; or why the step goes on.")
    goes_on: bool = Field(False, description="True: the step goes on although its time is over.")
    is_last: bool = Field(False, description="True: it is the rollout's last step.")
    verdict: CanaryVerdict | None = None
    checks: list[CheckState] = Field([], description="The app's own metrics and hooks at that time.")
    left_out: dict[LeftOut, int] = Field({})

    def replaces(self, earlier: "VerdictRecord") -> bool:
        """Returns True if both records say that the same step goes on; then only this one is kept."""
        return earlier.goes_on and self.goes_on and self.step == earlier.step


class VisitorCounts(View):
    """Holds the number of visitors that cookies told apart, and of those of them who met an error."""

    visitors: int = 0
    failing: int = 0


class LeftOutCounts(View):
    """Holds the proxy's counters of requests that did not count in the comparison of canary and production (by reason),
    and of those whose visitor a cookie identified (`recognised`). `last` is the last reading of the counters, `before`
    what they had reached each time before they began at 0 again.
    """

    before: dict[str, int] = Field({})
    last: dict[str, int] = Field({})

    def read(self, counters: Mapping[str, int]) -> "LeftOutCounts":
        """Returns the counts after a new reading of the counters. If one of them is lower than at the last reading,
        they have begun at 0 again.
        """
        if any(counters.get(name, 0) < count for name, count in self.last.items()):
            return LeftOutCounts(before=self.total, last=dict(counters))
        return LeftOutCounts(before=self.before, last=dict(counters))

    @property
    def total(self) -> dict[str, int]:
        return _added(self.before, self.last)

    def joined(self, later: "LeftOutCounts") -> "LeftOutCounts":
        """Returns these counts joined to those of a later process, which has read the same counters of the proxy."""
        if not later.before:
            return self.read(later.last) if later.last else self
        return LeftOutCounts(before=_added(self.total, later.before), last=later.last)


class AnalysisRecord(View):
    """Holds what is stored of the canary analysis of one rollout. `counted` has the requests that did not count in the
    comparison. Of much traffic, only one visitor in `sampled_one_in` counts. A request without an answer for
    `hang_limit_ms` counts as failed (0: no limit). Points for charts are `point_s` seconds long.
    """

    app: str
    release: str
    opened_at: datetime
    ended_at: datetime | None = None
    verdict: CanaryVerdict | None = Field(None, description="The last verdict.")
    verdict_at: datetime | None = None
    steps: list[StepFigures] = Field([])
    verdicts: list[VerdictRecord] = Field([])
    visitors: dict[Track, VisitorCounts] = Field({})
    counted: LeftOutCounts = LeftOutCounts()
    sampled_one_in: int = 1
    hang_limit_ms: float = 0
    point_s: int = 10
    told: bool = Field(False, description="True: people were told that the last step is held.")

    def with_window(self, window: JudgedWindow, now: datetime) -> "AnalysisRecord":
        """Returns the record with the requests of one more window (a few seconds), which ends at `now`."""
        last = self.steps[-1] if self.steps else None
        if last is not None and last.step == window.step:
            steps = [*self.steps[:-1], last.with_window(window)]
        else:
            began_at = now - timedelta(seconds=window.seconds)
            begun = StepFigures(step=window.step, weight=window.weight, began_at=began_at)
            steps = [*self.steps, begun.with_window(window)]
        visitors = {
            track: VisitorCounts(visitors=figures.visitors, failing=figures.failing_visitors)
            for track, figures in window.tracks.items()
        }
        most = {track: _most(self.visitors.get(track, VisitorCounts()), each) for track, each in visitors.items()}
        update = {"steps": steps, "visitors": self.visitors | most}
        return self.model_copy(update=update)

    def with_judged(self, judged: JudgedTraffic) -> "AnalysisRecord":
        """Returns the record after a new reading of the proxy's counters of requests that did not count in the
        comparison of canary and production.
        """
        counters = {**{str(reason): count for reason, count in judged.left_out.items()}, RECOGNISED: judged.recognised}
        update = {
            "counted": self.counted.read(counters),
            "sampled_one_in": max(self.sampled_one_in, judged.sampled_one_in),
            "hang_limit_ms": judged.hang_limit_ms,
        }
        return self.model_copy(update=update)

    def with_verdict(self, record: VerdictRecord) -> "AnalysisRecord":
        """Returns the record with one more verdict; at most 60 are kept. If the last verdict said that the same step
        goes on, a newer one that says so takes its place.
        """
        kept = self.verdicts
        if kept and record.replaces(kept[-1]):
            record, kept = record.model_copy(update={"at": kept[-1].at}), kept[:-1]
        return self.model_copy(update={"verdicts": [*kept, record][-VERDICTS_KEPT:]})

    @property
    def last_gate(self) -> VerdictRecord | None:
        """Returns the last verdict that was recorded because the time of a step was over; None if there is none."""
        return next((each for each in reversed(self.verdicts) if each.occasion is Occasion.GATE), None)

    @property
    def ended_steps(self) -> int:
        """Returns the number of steps whose end is recorded."""
        ended = [each.step for each in self.verdicts if each.occasion is Occasion.GATE and not each.goes_on]
        return max(ended, default=-1) + 1

    def ended(self, record: VerdictRecord) -> "AnalysisRecord":
        """Returns the record with the end of the rollout, which has the verdict `record`; unchanged if the end is
        recorded already.
        """
        return self if self.ended_at else self.with_verdict(record).model_copy(update={"ended_at": record.at})

    def after(self, earlier: "AnalysisRecord") -> "AnalysisRecord":
        """Returns this record joined to `earlier`, which an earlier process has stored about the same rollout."""
        if earlier.ended_at:
            return earlier
        steps = list(earlier.steps)
        for each in self.steps:
            if steps and steps[-1].step == each.step:
                steps[-1] = _joined(steps[-1], each)
            else:
                steps.append(each)
        joined = earlier.model_copy(update={"steps": steps})
        for record in self.verdicts:
            is_known = record.occasion is Occasion.GATE and record.step < joined.ended_steps
            joined = joined if is_known else joined.with_verdict(record)
        visitors = {
            track: _most(earlier.visitors.get(track, VisitorCounts()), each) for track, each in self.visitors.items()
        }
        return joined.model_copy(
            update={
                "ended_at": self.ended_at,
                "verdict": self.verdict or earlier.verdict,
                "verdict_at": self.verdict_at or earlier.verdict_at,
                "visitors": earlier.visitors | visitors,
                "counted": earlier.counted.joined(self.counted),
                "sampled_one_in": max(earlier.sampled_one_in, self.sampled_one_in),
                "hang_limit_ms": self.hang_limit_ms or earlier.hang_limit_ms,
            }
        )

    @property
    def totals(self) -> dict[Track, StepCounts]:
        """Returns both tracks' counts over all steps of the rollout."""
        return {track: _sum([step.tracks.get(track, StepCounts()) for step in self.steps]) for track in Track}

    @property
    def recognised_share(self) -> float | None:
        """Returns the share of counted requests whose visitor a cookie identified, 0 to 1; None without requests."""
        requests = sum(counts.requests for counts in self.totals.values())
        return min(1.0, self.counted.total.get(RECOGNISED, 0) / requests) if requests else None

    @property
    def left_out(self) -> dict[LeftOut, int]:
        """Returns how many requests did not count in the comparison of canary and production, by reason, such as that
        the visitor had chosen the canary.
        """
        return {reason: self.counted.total.get(str(reason), 0) for reason in LeftOut}


def _joined(first: StepFigures, second: StepFigures) -> StepFigures:
    tracks = {track: _sum([each.tracks.get(track, StepCounts()) for each in (first, second)]) for track in Track}
    seconds = round(first.seconds + second.seconds, 1)
    return first.model_copy(update={"weight": second.weight, "seconds": seconds, "tracks": tracks})


def _sum(counts: Sequence[StepCounts]) -> StepCounts:
    return StepCounts(
        requests=sum(each.requests for each in counts),
        errors=sum(each.errors for each in counts),
        client_errors=sum(each.client_errors for each in counts),
    )


def _most(first: VisitorCounts, second: VisitorCounts) -> VisitorCounts:
    """Returns the higher one of each count. Both are counted since the rollout was opened, or since the proxy last
    began at 0.
    """
    return VisitorCounts(visitors=max(first.visitors, second.visitors), failing=max(first.failing, second.failing))


def _added(first: Mapping[str, int], second: Mapping[str, int]) -> dict[str, int]:
    return {name: first.get(name, 0) + second.get(name, 0) for name in {**first, **second}}
