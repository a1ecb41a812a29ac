"""Keeps one judge for each open rollout. A judge compares the canary's requests with production's; it gets the requests
that the proxy has counted since the last reading of its counters.
"""

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
    """Holds the canary analysis of one open rollout: the judge, which compares the canary's requests with production's,
    and the proxy's counters that the judge has got so far.
    """

    app: str
    release: str
    judge: Judge
    since: datetime
    """Time at which the rollout was opened."""
    counters: JudgedCounters = field(repr=False)
    """The proxy's counters at the last reading. At the next one, the judge gets the difference (a window)."""
    step: int
    """Number of the rollout's step, from 0, to which the last requests belong that the judge got."""
    last_window_at: datetime | None = None
    """Time of the last reading of the proxy's counters; None before the first one. While the proxy gives no figures, it
    stays the same.
    """
    judged: JudgedTraffic | None = None
    """The proxy's complete figures at the last reading: errors by kind, and also the requests that do not count in the
    comparison, by reason.
    """
    saved_at: datetime | None = field(default=None, repr=False)
    _verdict: CanaryVerdict | None = field(default=None, repr=False)

    def verdict(self) -> CanaryVerdict:
        """Returns the judge's verdict (pass, fail or inconclusive) by the newest figures. It is computed only once for
        the same figures.
        """
        if self._verdict is None or self.judge.failed:
            self._verdict = self.judge.verdict()
        return self._verdict

    def add(self, window: JudgedWindow) -> None:
        self.judge.add(window)
        self._verdict = None

    def evidence(self) -> dict[str, JsonValue]:
        """Returns the evidence that is stored with an aborted rollout, a few KiB: the verdict with the size of each
        harm and all counts, the step and times of the rollout, errors by kind, and the number of requests that did not
        count in the comparison, by reason.
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
"""Function that is called after a window, the requests between two readings of the proxy's counters, was added to the
analysis. It must not wait; an exception is logged.
"""


class CanaryAnalyses:
    """Holds one analysis for each open rollout. Gives each judge windows, which are the requests between two readings
    of the proxy's counters, and then calls `observers`. Only `load_wanted`, `flush` and `forget` wait for Redis. `wake`
    starts the loop that calls `load_wanted`. `own_failure` returns why a release failed a check of its app's own, or
    None.
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
        """Release → time at which its stored analysis was first asked for; `load_wanted` then reads it."""
        self._loaded: dict[str, dict[str, Any] | None] = {}
        """Release → its stored analysis, not used yet; None if the store has none."""
        self._broken: set[str] = set()
        """Releases whose analysis has raised an error, which was logged."""

    def of(self, app: str) -> CanaryAnalysis | None:
        """Returns the analysis of the app's open rollout; None if there is no open rollout, or if the proxy has given
        no figures of it yet.
        """
        return self._open.get(app)

    def record(self, rollout: RolloutView, traffic: TrafficView | None, joined_at: datetime | None) -> None:
        """Adds the requests that the proxy has counted since the last reading to the rollout's analysis. Does nothing
        if `traffic` has no figures of this rollout. `joined_at` is the time at which the newest instance of the canary
        became ready; latencies do not count for 30 s after it. Never waits. An error of the analysis is logged once,
        and the reading is skipped.
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
        """Returns a reading for alert rules. Its value is 1 if the canary has failed, by its requests or by a check of
        its app's own, else 0. The value is None if there were no figures in the last 10 s.
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
        """Forgets the analyses of all apps that are not in `apps`."""
        for app in self._open.keys() - set(apps):
            self.end(app)

    def _begin(self, rollout: RolloutView, judged: JudgedTraffic, now: datetime) -> CanaryAnalysis | None:
        """Returns the analysis of a rollout of which this process has none: the one that an earlier process has stored,
        or a new one. Returns None while the store has not answered, for 2 s at most. The requests of these 2 s still
        count, since the proxy's counters go on.
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
        """Reads the stored analyses of rollouts that are older than this process and that `record` waits for. Raises
        RedisError.
        """
        self._wanted = {release: at for release, at in self._wanted.items() if self._clock() - at < FIGURES_COUNT_FOR}
        self._loaded = {release: stored for release, stored in self._loaded.items() if release in self._wanted}
        for release in self._wanted.keys() - self._loaded.keys():
            self._loaded[release] = await self._store.load(release)

    async def flush(self) -> None:
        """Stores each open analysis that has figures, at most every 5 s. Raises RedisError; the next call then stores
        them.
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
    """Returns the stored analysis; None if it cannot be read, because another version of the monitor wrote it."""
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
