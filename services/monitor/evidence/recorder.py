"""Records what the canary analyses find: in memory at once, in Redis a little later."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from pydantic import ValidationError

from services.monitor.alerts.canary_analyses import CanaryAnalysis
from services.monitor.alerts.proxy_figures import CURRENT
from services.monitor.analysis.verdict import CanaryVerdict
from services.monitor.analysis.window import JudgedWindow
from services.monitor.checks.check_state import CheckState
from services.monitor.evidence.analysis_record import AnalysisRecord, Occasion, VerdictRecord
from services.monitor.evidence.evidence_store import EvidenceStore
from services.monitor.evidence.series import Series, SeriesPoint
from shared.models import Environment, Event
from shared.proxy_models import RolloutView, VerdictResult, VerdictSummary
from shared.store import RedisError

WRITE_EVERY = timedelta(seconds=30)  # a verdict that something follows from is written at once
VERDICT_EVERY = timedelta(seconds=9.5)  # windows come every 0.5 s, a little early or late
HELD_FOR = timedelta(minutes=1)  # a step that is held for less needs nobody
IDLE = timedelta(hours=1)  # without news, a rollout is dropped from memory; what is stored stays
ENDS = {"rollout.aborted": Occasion.ABORTED, "rollout.promoted": Occasion.PROMOTED}
HELD_EVENT = "analysis.inconclusive"


@dataclass
class _Kept:
    """Holds one rollout's record and points for charts. Of the points, those until `stored_s` (seconds since the
    rollout was opened) are stored, each `stored_point_s` seconds long.
    """

    record: AnalysisRecord
    changed_at: datetime
    series: Series = field(default_factory=Series)
    is_restored: bool = False
    is_changed: bool = True
    is_urgent: bool = True
    written_at: datetime | None = None
    stored_s: float = -1.0
    stored_point_s: int = 0


class EvidenceRecorder:
    """Records what the canary analyses of open rollouts find: figures, verdicts and points for charts. It does so in
    memory, and stores the records later. `checks` returns the states of a release's own metrics and hooks. Only
    `flush`, `on_event`, `read` and `forget` wait for Redis; all other methods use the memory alone.
    """

    def __init__(
        self,
        store: EvidenceStore,
        checks: Callable[[str], list[CheckState]],
        clock: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._checks = checks
        self._clock = clock
        self._kept: dict[str, _Kept] = {}
        self._writing = asyncio.Lock()

    # --- what is recorded

    def on_window(self, analysis: CanaryAnalysis, window: JudgedWindow) -> None:
        """Records the requests of a window (a few seconds) that was added to the analysis of an open rollout. The
        analysis's verdict is recorded every 10 s, because computing it takes a while, and at once when the canary has
        failed.
        """
        now = self._clock()
        kept = self._of(analysis.app, analysis.release, analysis.since)
        record = kept.record.with_window(window, now)
        is_old = record.verdict_at is None or abs(now - record.verdict_at) >= VERDICT_EVERY
        has_failed = record.verdict is not None and record.verdict.result is VerdictResult.FAIL
        if is_old or (analysis.judge.failed and not has_failed):
            record = record.model_copy(update={"verdict": analysis.verdict(), "verdict_at": now})
        if analysis.judged is not None:
            record = record.with_judged(analysis.judged)
        kept.record = record
        kept.series.add(window, record.verdict, analysis.judge.le_ms)

    def on_rollout(self, rollout: RolloutView) -> None:
        """Records that the rollout is open, which of its steps have ended, and why its present step goes on although
        its time is over. It may be called with the same rollout any number of times.
        """
        if rollout.release is None or rollout.state not in CURRENT:
            return
        known = self._kept.get(rollout.release)
        record = (known or self._of(rollout.app, rollout.release, rollout.opened_at or self._clock())).record
        last, ended = record.last_gate, record.ended_steps
        for step in range(ended, len(rollout.ended_steps)):
            end = rollout.ended_steps[step]
            self._add_gate(rollout, step, end.at, end.reason, end.verdict, goes_on=False)
        is_new = last is None or (last.step, last.reason, last.goes_on) != (rollout.step, rollout.hold, True)
        if rollout.hold and is_new:
            at = rollout.verdict.at if rollout.verdict else self._clock()
            self._add_gate(rollout, rollout.step, at, rollout.hold, rollout.verdict, goes_on=True)

    def _add_gate(
        self,
        rollout: RolloutView,
        step: int,
        at: datetime,
        reason: str,
        summary: VerdictSummary | None,
        *,
        goes_on: bool,
    ) -> None:
        release = rollout.release or ""
        kept = self._of(rollout.app, release, rollout.opened_at or at)
        found = VerdictRecord(
            occasion=Occasion.GATE,
            at=at,
            step=step,
            weight=rollout.steps[step].weight if step < len(rollout.steps) else rollout.weight,
            result=summary.result if summary else None,
            score=summary.score if summary else None,
            reason=reason,
            goes_on=goes_on,
            is_last=step == len(rollout.steps) - 1,
            verdict=kept.record.verdict,
            checks=self._checks(release),
            left_out=kept.record.left_out,
        )
        kept.record, kept.is_urgent = kept.record.with_verdict(found), True

    async def on_event(self, event: Event) -> None:
        """Records and stores the end of a rollout; ignores events about anything else. Raises RedisError; the event
        must then be handled again.
        """
        if (occasion := ENDS.get(event.type)) is None:
            return
        extra = event.model_extra or {}
        evidence = extra["evidence"] if isinstance(extra.get("evidence"), dict) else {}
        ran_s = evidence.get("ran_s")
        ran = timedelta(seconds=ran_s if isinstance(ran_s, int | float) else 0)
        kept = self._of(event.app, event.id, event.at - ran)
        verdict = verdict_in(evidence) or kept.record.verdict
        last = kept.record.steps[-1] if kept.record.steps else None
        found = VerdictRecord(
            occasion=occasion,
            at=event.at,
            step=last.step if last else 0,
            weight=extra.get("weight", last.weight if last else 0),
            reason=event.reason,
            result=verdict.result if verdict else None,
            score=verdict.score if verdict else None,
            verdict=verdict,
            checks=self._checks(event.id),
            left_out=kept.record.left_out,
        )
        kept.record = kept.record.ended(found).model_copy(update={"verdict": verdict})
        kept.is_urgent = True
        kept.series.close()
        async with self._writing:
            await self._write(kept)

    def _of(self, app: str, release: str, opened_at: datetime) -> _Kept:
        now = self._clock()
        kept = self._kept.get(release)
        if kept is None:
            record = AnalysisRecord(app=app, release=release, opened_at=opened_at)
            kept = self._kept[release] = _Kept(record, now)
        kept.changed_at, kept.is_changed = now, True
        return kept

    # --- what is asked for

    def open(self) -> list[AnalysisRecord]:
        """Returns the records of the open rollouts that are in memory."""
        return [kept.record for kept in self._kept.values() if kept.record.ended_at is None]

    def verdict(self, release: str) -> VerdictSummary | None:
        """Returns the last verdict about a release whose rollout is open; None if there is none."""
        record = kept.record if (kept := self._kept.get(release)) else None
        if record is None or record.verdict is None or record.verdict_at is None:
            return None
        found = record.verdict
        return VerdictSummary(result=found.result, score=found.score, reason=found.reason, at=record.verdict_at)

    async def read(self, release: str) -> tuple[AnalysisRecord, list[SeriesPoint]] | None:
        """Returns the record of a release's canary analysis and its points for charts; None if nothing is kept of it.
        Raises RedisError if nothing is in memory and Redis does not answer.
        """
        kept = self._kept.get(release)
        if kept is None:
            return await self._store.read(release)
        with contextlib.suppress(RedisError):  # what is in memory can be shown
            async with self._writing:
                await self._restore(kept)
        return kept.record, kept.series.points()

    # --- Redis

    async def flush(self) -> None:
        """Stores the records that have changed: each every 30 s, or at once after a verdict on which a step or the
        rollout ended or went on. Raises RedisError if Redis does not answer; the next call then stores them.
        """
        async with self._writing:
            for release, kept in list(self._kept.items()):
                is_due = kept.written_at is None or abs(self._clock() - kept.written_at) >= WRITE_EVERY
                is_told = kept.is_urgent or _held_event(kept.record, self._clock()) is not None
                if is_told or (kept.is_changed and is_due):
                    await self._write(kept)
                elif not kept.is_changed and (kept.record.ended_at or self._clock() - kept.changed_at > IDLE):
                    self._kept.pop(release, None)

    async def forget(self, app: str) -> None:
        """Deletes all analyses of the app. Raises RedisError."""
        async with self._writing:
            self._kept = {release: kept for release, kept in self._kept.items() if kept.record.app != app}
            await self._store.forget(app)

    async def _write(self, kept: _Kept) -> None:
        await self._restore(kept)
        if (event := _held_event(kept.record, self._clock())) is not None:
            kept.record = kept.record.model_copy(update={"told": True})
        kept.record = kept.record.model_copy(update={"point_s": kept.series.point_s})
        kept.is_changed, urgent = False, kept.is_urgent
        kept.is_urgent = False
        points, point_s = kept.series.ended(), kept.series.point_s
        is_whole = point_s != kept.stored_point_s
        new = points if is_whole else [point for point in points if point.at_s > kept.stored_s]
        try:
            await self._store.write(kept.record, new, whole_series=is_whole, event=event)
        except BaseException:
            kept.is_changed, kept.is_urgent = True, kept.is_urgent or urgent
            if event is not None:
                kept.record = kept.record.model_copy(update={"told": False})
            raise
        kept.written_at = self._clock()
        if new:
            kept.stored_s = new[-1].at_s
        kept.stored_point_s = point_s
        if kept.record.ended_at:
            await self._store.trim(kept.record.app)

    async def _restore(self, kept: _Kept) -> None:
        """Joins the record to the one that an earlier process has stored, once."""
        if kept.is_restored:
            return
        found = await self._store.read(kept.record.release)
        kept.is_restored = True
        if found is not None:
            earlier, points = found
            kept.record = kept.record.after(earlier)
            kept.series.restore(points, earlier.point_s)


def verdict_in(evidence: Mapping[str, Any]) -> CanaryVerdict | None:
    """Returns the canary analysis's verdict in the evidence of an abort; None if another rule aborted the rollout."""
    seen = evidence.get("seen")
    try:
        return CanaryVerdict.model_validate(seen.get("verdict")) if isinstance(seen, dict) else None
    except ValidationError:
        return None


def _held_event(record: AnalysisRecord, now: datetime) -> Event | None:
    """Returns the event that the last step of a rollout has gone on for a minute after its time was over, because the
    analysis is not certain; None if that is not so, or if people have been notified already.
    """
    last = record.verdicts[-1] if record.verdicts else None
    if record.told or last is None or not (last.goes_on and last.is_last) or last.result is VerdictResult.FAIL:
        return None
    if now - last.at < HELD_FOR:
        return None
    return Event(
        type=HELD_EVENT,
        app=record.app,
        at=last.at,
        id=record.release,
        reason=last.reason,
        release=record.release,
        environment=Environment.CANARY.value,
        weight=last.weight,
        opened_at=record.opened_at.isoformat(),
        verdict=last.verdict.model_dump(mode="json") if last.verdict else None,
    )
