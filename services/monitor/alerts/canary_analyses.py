"""Keeps one judge for each open rollout, and feeds it with the differences of the proxy's counters."""

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from pydantic import JsonValue, ValidationError

from services.monitor.alerts.analysis_store import AnalysisStore
from services.monitor.alerts.judged_counters import JudgedCounters, window_between
from services.monitor.analysis.judge import Judge
from services.monitor.analysis.lanes.margins import Margins
from services.monitor.analysis.verdict import CanaryVerdict
from services.monitor.analysis.window import JudgedWindow
from services.monitor.rules.rule import Reading
from shared.models import Track
from shared.proxy_models import JudgedTraffic, RolloutView, TrafficView, VerdictResult

log = logging.getLogger(__name__)

FIGURES_COUNT_FOR = timedelta(seconds=10)
WAIT_FOR_STORED = timedelta(seconds=2)
SAVED_EVERY = timedelta(seconds=5)
OWN_CHECK = "own_check"  # key of the evidence if a check of the app's own failed
NO_FIGURES = Reading(None, "the proxy gave no figures for the canary analysis")
WARM_UP = timedelta(seconds=Margins().warm_up_s)


@dataclass
class CanaryAnalysis:
    """Holds the canary analysis of one open rollout."""

    app: str
    release: str
    judge: Judge
    since: datetime
    """Time at which the rollout was opened."""
    counters: JudgedCounters = field(repr=False)
    """The proxy's counters at the end of the last window, with which the next ones are compared."""
    step: int
    """Number of the step of the last window."""
    last_window_at: datetime | None = None
    """Time of the reading that ended the last window; None before the first one. A proxy that gives no figures does not
    advance it.
    """
    judged: JudgedTraffic | None = None
    """The proxy's counters at the end of the last window, also of what was left out."""
    saved_at: datetime | None = field(default=None, repr=False)
    _verdict: CanaryVerdict | None = field(default=None, repr=False)

    def verdict(self) -> CanaryVerdict:
        """Returns the judge's verdict after the last window, which is computed once a window."""
        if self._verdict is None or self.judge.failed:
            self._verdict = self.judge.verdict()
        return self._verdict

    def add(self, window: JudgedWindow) -> None:
        self.judge.add(window)
        self._verdict = None

    def evidence(self) -> dict[str, JsonValue]:
        """Returns the evidence of an abort: the verdict with its harms, counts and times, the step, and what was left
        out. It is a few KiB long.
        """
        judged = self.judged
        left_out = {} if judged is None else judged.model_dump(mode="json", exclude={"tracks", "release"})
        errors = {} if judged is None else {track: dict(counts.errors) for track, counts in judged.tracks.items()}
        return {
            "verdict": self.verdict().model_dump(mode="json"),
            "step": self.step,
            "opened_at": self.since.isoformat(),
            "judged_at": self.last_window_at.isoformat() if self.last_window_at else None,
            "errors_by_kind": errors,
            **left_out,
        }


WindowObserver = Callable[[CanaryAnalysis, JudgedWindow], None]
"""Function that is called after each window was added to the analysis. It must not wait; an exception is logged."""


class CanaryAnalyses:
    """Makes windows from the proxy's counters and gives them to the judges. `observers` are told of each window. Only
    `load_wanted` and `flush` wait for Redis; `wake` is called when something is to be loaded.
    """

    def __init__(
        self,
        store: AnalysisStore,
        clock: Callable[[], datetime],
        wake: Callable[[], None],
        observers: Sequence[WindowObserver] = (),
        own_failure: Callable[[str], str | None] = lambda release: None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._wake = wake
        self._observers = observers
        self._own_failure = own_failure
        self._started_at = clock()
        self._open: dict[str, CanaryAnalysis] = {}
        self._wanted: dict[str, datetime] = {}
        """Release → time since which its stored analysis is waited for."""
        self._loaded: dict[str, dict[str, Any] | None] = {}
        """Release → its stored analysis."""
        self._broken: set[str] = set()
        """Releases whose analysis has raised an error, which was logged."""

    def of(self, app: str) -> CanaryAnalysis | None:
        """Returns the analysis of the app's open rollout; None if there is none, or no window of it yet."""
        return self._open.get(app)

    def record(self, rollout: RolloutView, traffic: TrafficView | None, joined_at: datetime | None) -> None:
        """Adds the window that the proxy's counters end, unless they have none of this rollout: no figures are no
        window. `joined_at` is the time at which the newest instance of the canary became ready. Never waits. An error
        of the analysis is logged once, and counts as no figures.
        """
        try:
            self._record(rollout, traffic, joined_at)
        except Exception:
            if rollout.release not in self._broken:
                log.exception("the traffic of %s cannot be analysed", rollout.release)
                self._broken.add(str(rollout.release))

    def _record(self, rollout: RolloutView, traffic: TrafficView | None, joined_at: datetime | None) -> None:
        judged, now = traffic.judged if traffic else None, self._clock()
        if traffic is None or judged is None or judged.release != rollout.release:
            return
        analysis = self._open.get(rollout.app)
        if analysis is None or analysis.release != judged.release:
            analysis = self._begin(rollout, judged, now)
            if analysis is None:
                return
            self._open[rollout.app] = analysis
        is_warming = joined_at is not None and now - joined_at < WARM_UP
        counters = analysis.counters.following(traffic.epoch, judged, rollout.step, now)
        window = window_between(analysis.counters, counters, analysis.judge.le_ms, warming=is_warming)
        analysis.add(window)
        analysis.counters, analysis.judged = counters, judged
        analysis.step, analysis.last_window_at = window.step, now
        for observe in self._observers:
            try:
                observe(analysis, window)
            except Exception:
                log.exception("a window of %s could not be passed on", analysis.release)

    def reading(self, app: str, release: str) -> Reading:
        """Returns 1 if the canary has failed, by its requests or by a check of its app's own; else 0. The value is None
        if there were no figures in the last 10 s.
        """
        analysis, now = self._open.get(app), self._clock()
        if (failure := self._own_failure(release)) is not None:
            return Reading(1.0, failure, {**(analysis.evidence() if analysis else {}), OWN_CHECK: failure})
        if analysis is None or analysis.release != release or analysis.last_window_at is None:
            return NO_FIGURES
        if now - analysis.last_window_at > FIGURES_COUNT_FOR:
            return NO_FIGURES
        if not analysis.judge.failed:
            return Reading(0.0, "the canary analysis found no harm")
        verdict = analysis.verdict()
        return Reading(float(verdict.result is VerdictResult.FAIL), verdict.reason, analysis.evidence())

    def end(self, app: str) -> None:
        """Forgets the analysis of the app's rollout, which has ended."""
        if (ended := self._open.pop(app, None)) is not None:
            self._broken.discard(ended.release)

    def keep(self, apps: Collection[str]) -> None:
        """Forgets the analyses of all other apps."""
        for app in self._open.keys() - set(apps):
            self.end(app)

    def _begin(self, rollout: RolloutView, judged: JudgedTraffic, now: datetime) -> CanaryAnalysis | None:
        """Returns the analysis of a rollout that is seen for the first time: the stored one, or a new one. Returns None
        while it is not known whether one is stored, for 2 s at most: the counters lose nothing in that time.
        """
        release, opened_at = judged.release, rollout.opened_at
        if opened_at is None or opened_at < self._started_at:
            asked_at = self._wanted.setdefault(release, now)
            if release not in self._loaded and now - asked_at < WAIT_FOR_STORED:
                self._wake()
                return None
        self._wanted.pop(release, None)
        stored = self._loaded.pop(release, None)
        if stored and (analysis := _restored(stored, rollout.app, release)):
            return analysis
        le_ms = judged.tracks[Track.STABLE].latency.le_ms
        since = min(opened_at or now, now)
        return CanaryAnalysis(rollout.app, release, Judge(le_ms), since, JudgedCounters(at=since), rollout.step)

    # --- Redis

    async def load_wanted(self) -> None:
        """Reads the stored analyses that `record` waits for. Raises RedisError."""
        self._wanted = {release: at for release, at in self._wanted.items() if self._clock() - at < FIGURES_COUNT_FOR}
        self._loaded = {release: stored for release, stored in self._loaded.items() if release in self._wanted}
        for release in self._wanted.keys() - self._loaded.keys():
            self._loaded[release] = await self._store.load(release)

    async def flush(self) -> None:
        """Stores the analyses that have a window since they were last stored, each every 5 s. Raises RedisError; the
        next call then stores them.
        """
        now = self._clock()
        due = [each for each in self._open.values() if each.saved_at is None or now - each.saved_at >= SAVED_EVERY]
        due = [each for each in due if each.last_window_at is not None]
        if due:
            await self._store.save({each.release: _stored(each) for each in due})
            for each in due:
                each.saved_at = now

    async def forget(self, app: str) -> None:
        """Deletes the analyses of the app, in memory and in the store. Raises RedisError."""
        self.end(app)
        await self._store.forget(app)


def _stored(analysis: CanaryAnalysis) -> dict[str, JsonValue]:
    return {
        "since": analysis.since.isoformat(),
        "step": analysis.step,
        "counters": analysis.counters.model_dump(mode="json"),
        "judge": analysis.judge.dump(),
    }


def _restored(stored: dict[str, Any], app: str, release: str) -> CanaryAnalysis | None:
    """Returns the stored analysis; None if another version wrote it, in a form that cannot be read any more."""
    try:
        return CanaryAnalysis(
            app=app,
            release=release,
            judge=Judge.restored(stored["judge"]),
            since=datetime.fromisoformat(stored["since"]),
            step=int(stored["step"]),
            counters=JudgedCounters.model_validate(stored["counters"]),
        )
    except (KeyError, TypeError, ValueError, ValidationError):
        log.exception("the stored analysis of %s cannot be read; it begins anew, with all counts since then", release)
        return None
