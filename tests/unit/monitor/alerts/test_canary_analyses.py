"""The proxy's counters become windows of a judge that outlives the monitor's process."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redis.asyncio import Redis

from services.monitor.alerts.analysis_store import KEPT_S, AnalysisStore
from services.monitor.alerts.canary_analyses import CanaryAnalyses, CanaryAnalysis, WindowObserver
from services.monitor.analysis.window import JudgedWindow, TrackWindow
from shared.models import Track
from shared.proxy_models import (
    JudgedTrack,
    JudgedTraffic,
    LatencyHistogram,
    LeftOut,
    RequestError,
    RolloutState,
    RolloutView,
    TrackTraffic,
    TrafficView,
    VerdictResult,
)

pytestmark = pytest.mark.anyio
START = datetime(2026, 1, 1, tzinfo=UTC)
LE_MS: list[float | None] = [10, 100, None]
OUTAGE = (30, 30)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


class Followed:
    """An app's rollout as the proxy counts it, and the monitor's analyses of it."""

    def __init__(self, redis: Redis, opened_s: float = 0, **changes: Any) -> None:
        self.redis = redis
        self.now_s = 0.0
        self.epoch = "e1"
        self.counts = {Track.CANARY: [0, 0], Track.STABLE: [0, 0]}
        self.rollout = RolloutView(
            app="notes", release="notes-r9", state=RolloutState.PROGRESSING, opened_at=at(opened_s), **changes
        )
        self.woken = 0
        self.analyses = self.restarted()

    def clock(self) -> datetime:
        return at(self.now_s)

    def wake(self) -> None:
        self.woken += 1

    def restarted(self, *observers: WindowObserver) -> CanaryAnalyses:
        self.analyses = CanaryAnalyses(AnalysisStore(self.redis), self.clock, self.wake, observers)
        return self.analyses

    def judged(self, **changes: Any) -> JudgedTraffic:
        tracks = {
            track: JudgedTrack(
                requests=requests,
                errors={RequestError.STATUS: errors, RequestError.HANGING: 0},
                client_errors=0,
                latency=LatencyHistogram(le_ms=LE_MS, counts=[0, requests - errors, requests]),
                visitors=requests,
                failing_visitors=errors,
            )
            for track, (requests, errors) in self.counts.items()
        }
        given = {"release": "notes-r9", "weight": 33, "tracks": tracks, "left_out": {LeftOut.FORCED: 7}}
        return JudgedTraffic(**given | changes)

    def traffic(self, judged: JudgedTraffic | None) -> TrafficView:
        nothing = LatencyHistogram(le_ms=[None], counts=[0])
        tracks = {track: TrackTraffic(release=None, requests=0, errors=0, latency=nothing) for track in Track}
        return TrafficView(epoch=self.epoch, share_set=0.33, share_seen=None, tracks=tracks, judged=judged)

    def second(self, canary: tuple[int, int] = (0, 0), stable: tuple[int, int] = (0, 0), seconds: float = 1) -> None:
        """Lets time pass in which these requests (all, failed) are counted, and looks at the proxy."""
        self.now_s += seconds
        for track, more in ((Track.CANARY, canary), (Track.STABLE, stable)):
            for index in (0, 1):
                self.counts[track][index] += more[index]
        self.analyses.record(self.rollout, self.traffic(self.judged()), None)

    def of(self) -> CanaryAnalysis:
        analysis = self.analyses.of("notes")
        assert analysis is not None
        return analysis

    def value(self) -> float | None:
        return self.analyses.reading("notes", "notes-r9").value


@pytest.fixture
def followed(redis: Redis) -> Followed:
    return Followed(redis)


def windows_of(followed: Followed) -> list[JudgedWindow]:
    windows: list[JudgedWindow] = []
    followed.restarted(lambda analysis, window: windows.append(window))
    return windows


async def test_a_window_holds_the_difference_of_two_readings(followed: Followed) -> None:
    windows = windows_of(followed)
    followed.second(canary=(5, 1), stable=(10, 0))
    followed.second(canary=(3, 0), stable=(4, 2), seconds=0.5)
    assert windows == [
        JudgedWindow(
            at_s=1.0,
            seconds=1.0,
            step=0,
            weight=33,
            tracks={
                Track.CANARY: TrackWindow(requests=5, errors=1, latency=(0, 4, 1), visitors=5, failing_visitors=1),
                Track.STABLE: TrackWindow(requests=10, latency=(0, 10, 0), visitors=10),
            },
        ),
        JudgedWindow(
            at_s=1.5,
            seconds=0.5,
            step=0,
            weight=33,
            tracks={
                Track.CANARY: TrackWindow(requests=3, latency=(0, 3, 0), visitors=8, failing_visitors=1),
                Track.STABLE: TrackWindow(requests=4, errors=2, latency=(0, 2, 2), visitors=14, failing_visitors=2),
            },
        ),
    ]


async def test_a_canary_that_harms_visitors_fails_and_it_is_said_why(followed: Followed) -> None:
    followed.second(stable=(60, 0))
    assert followed.value() == 0
    for _ in range(4):
        followed.second(canary=OUTAGE, stable=(60, 0))
    reading = followed.analyses.reading("notes", "notes-r9")
    assert (reading.value, reading.description.split(":")[0]) == (1, "errors")
    assert followed.of().verdict().result is VerdictResult.FAIL
    assert followed.analyses.reading("notes", "notes-r8").value is None, "another release"
    followed.analyses.end("notes")
    assert (followed.analyses.of("notes"), followed.value()) == (None, None)


@pytest.mark.parametrize("judged", [None, "another release"])
async def test_a_proxy_without_figures_is_no_window_and_no_verdict(followed: Followed, judged: str | None) -> None:
    for _ in range(5):
        followed.second(canary=OUTAGE, stable=(60, 0))
    assert followed.value() == 1
    last = followed.of().last_window_at
    silent = followed.judged(release="notes-r8") if judged else None
    for _ in range(11):
        followed.now_s += 1
        followed.analyses.record(followed.rollout, followed.traffic(silent), None)
        followed.analyses.record(followed.rollout, None, None)
    assert (followed.of().last_window_at, followed.value()) == (last, None)


async def test_a_gap_is_one_window(followed: Followed) -> None:
    windows = windows_of(followed)
    followed.second(stable=(6, 0))
    followed.second(canary=(50, 0), stable=(100, 0), seconds=40)
    assert [(window.seconds, window.tracks[Track.CANARY].requests) for window in windows] == [(1, 0), (40, 50)]


async def test_a_proxy_that_counts_anew_loses_nothing(followed: Followed) -> None:
    windows = windows_of(followed)
    followed.second(canary=(20, 4), stable=(40, 0))
    judge = followed.of().judge
    followed.epoch, followed.counts = "e2", {Track.CANARY: [0, 0], Track.STABLE: [0, 0]}
    followed.second(canary=(3, 1), stable=(6, 0))
    assert followed.of().judge is judge
    canary = windows[-1].tracks[Track.CANARY]
    assert (canary.requests, canary.errors, canary.latency) == (3, 1, (0, 2, 1))
    verdict = followed.of().verdict()
    assert (verdict.requests[Track.CANARY], verdict.errors[Track.CANARY]) == (23, 5)


async def test_what_was_counted_while_the_step_changed_belongs_to_the_earlier_one(followed: Followed) -> None:
    windows = windows_of(followed)
    for step in (0, 1, 1):
        followed.rollout = followed.rollout.model_copy(update={"step": step})
        followed.second(canary=(1, 0))
    assert [window.step for window in windows] == [0, 0, 1]


async def test_a_canarys_instance_that_joined_is_warming_up_for_half_a_minute(followed: Followed) -> None:
    windows = windows_of(followed)
    for joined_s in (None, -28, -29.5):
        joined_at = None if joined_s is None else at(joined_s)
        followed.now_s += 1
        followed.analyses.record(followed.rollout, followed.traffic(followed.judged()), joined_at)
    assert [window.warming for window in windows] == [False, False, False]
    followed.analyses.record(followed.rollout, followed.traffic(followed.judged()), at(2))
    assert windows[-1].warming


async def test_latency_in_other_buckets_is_left_out(followed: Followed) -> None:
    windows = windows_of(followed)
    followed.second(canary=(2, 0), stable=(4, 0))
    judged = followed.judged()
    for counts in judged.tracks.values():
        counts.latency.le_ms[0] = 11
    followed.now_s += 1
    followed.analyses.record(followed.rollout, followed.traffic(judged), None)
    assert windows[-1].tracks[Track.CANARY].latency == ()


async def test_an_error_of_the_analysis_or_of_an_observer_is_no_failure_of_the_canary(
    followed: Followed, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(analysis: CanaryAnalysis, window: JudgedWindow) -> None:
        raise RuntimeError("full")

    followed.restarted(fail)
    followed.second(canary=(2, 0))
    assert followed.of().last_window_at == at(1)
    assert "a window of notes-r9 could not be passed on" in caplog.text
    broken = followed.judged(tracks={})
    for _ in range(3):
        followed.now_s += 5
        followed.analyses.record(followed.rollout, followed.traffic(broken), None)
    assert caplog.text.count("the traffic of notes-r9 cannot be analysed") == 1
    assert followed.value() is None


# --- restarts --------------------------------------------------------------------------------------------------------


def both(seconds: int) -> Callable[[Followed], None]:
    def happen(followed: Followed) -> None:
        for _ in range(seconds):
            followed.second(canary=(10, 3), stable=(20, 1))

    return happen


async def test_a_restart_of_the_monitor_loses_nothing(redis: Redis) -> None:
    whole, cut = Followed(redis), Followed(redis)
    for each in (whole, cut):
        both(3)(each)
    await cut.analyses.flush()
    windows = windows_of(cut)
    both(1)(cut)
    assert (cut.analyses.of("notes"), cut.woken) == (None, 1), "what is stored is not known yet"
    await cut.analyses.load_wanted()
    both(1)(cut)
    assert [(window.seconds, window.tracks[Track.CANARY].requests) for window in windows] == [(2, 20)]
    assert (cut.of().since, cut.of().step) == (whole.of().since, 0)
    both(1)(whole)
    both(1)(whole)
    assert cut.of().verdict().requests == whole.of().verdict().requests
    assert cut.of().verdict().errors == whole.of().verdict().errors
    both(3)(cut)
    assert cut.value() == 1


@pytest.mark.parametrize("stored", [None, "{", '{"judge": {}, "since": "x", "step": 0}'])
async def test_where_nothing_usable_is_stored_all_that_the_proxy_has_counted_is_the_first_window(
    redis: Redis, stored: str | None
) -> None:
    if stored:
        await redis.set("monitor:analysis:notes-r9", stored)
    followed = Followed(redis, opened_s=-60)
    windows = windows_of(followed)
    followed.second(canary=(10, 0), stable=(20, 0))
    await followed.analyses.load_wanted()
    followed.second(canary=(10, 0), stable=(20, 0))
    assert [(window.seconds, window.tracks[Track.CANARY].requests) for window in windows] == [(62, 20)]


async def test_a_redis_that_does_not_answer_is_waited_for_two_seconds(redis: Redis) -> None:
    followed = Followed(redis, opened_s=-60)
    for known in (False, False, True):
        followed.second(canary=(10, 0))
        assert (followed.analyses.of("notes") is not None) is known


async def test_an_analysis_is_stored_every_five_seconds_and_for_thirty_days(followed: Followed, redis: Redis) -> None:
    stored = []
    for _ in range(11):
        followed.second(canary=(1, 0))
        await followed.analyses.flush()
        found = await AnalysisStore(redis).load("notes-r9")
        stored.append(found and found["counters"]["tracks"]["canary"]["requests"])
    assert stored == [1, 1, 1, 1, 1, 6, 6, 6, 6, 6, 11]
    assert KEPT_S - 60 <= await redis.ttl("monitor:analysis:notes-r9") <= KEPT_S


async def test_an_app_that_is_removed_leaves_nothing(followed: Followed, redis: Redis) -> None:
    store = AnalysisStore(redis)
    await store.save({"notes-r8": {"judge": {}}, "notes-rest-r1": {"judge": {}}})
    followed.second(canary=(1, 0))
    await followed.analyses.flush()
    await followed.analyses.forget("notes")
    assert followed.analyses.of("notes") is None
    assert [await store.load(each) is None for each in ("notes-r8", "notes-r9", "notes-rest-r1")] == [True, True, False]


async def test_apps_that_came_and_went_are_forgotten(followed: Followed) -> None:
    followed.second(canary=(1, 0))
    followed.analyses.keep({"notes"})
    assert followed.analyses.of("notes") is not None
    followed.analyses.keep({"shop"})
    assert followed.analyses.of("notes") is None
