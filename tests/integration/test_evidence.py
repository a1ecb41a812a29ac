"""Tests that what the canary analysis finds is kept for 30 days on real Redis, over restarts and outages, and shown."""

import json
from datetime import timedelta
from typing import Any

import pytest
from redis.asyncio import Redis

from services.monitor.analysis.verdict import CanaryVerdict
from services.monitor.evidence import evidence_store
from services.monitor.evidence.analysis_record import Occasion
from services.monitor.evidence.evidence_store import KEPT_S, EvidenceStore
from services.monitor.evidence.recorder import EvidenceRecorder
from shared.models import Event, Track
from shared.proxy_models import LeftOut, RolloutStepEnd, RolloutView, VerdictResult, VerdictSummary
from shared.store import RedisError
from tests.support.monitor.analysed import AT, SetClock, analysis, judged, rollout, verdict, window
from tests.support.monitor.monitor_world import appended_events

pytestmark = pytest.mark.anyio
FAILED = verdict(VerdictResult.FAIL, 0)


class Kept:
    """The recorder of one monitor, whose windows follow each other every 2 s."""

    def __init__(self, redis: Redis, clock: SetClock) -> None:
        self.clock = clock
        self.recorder = EvidenceRecorder(EvidenceStore(redis), lambda release: [], clock)

    def windows(self, number: int, *, step: int = 0, says: CanaryVerdict | None = None, **counters: int) -> None:
        for _ in range(number):
            self.clock.after(2)
            at_s = (self.clock() - AT).total_seconds()
            of = analysis(says, judged(**counters))  # type: ignore[arg-type]
            self.recorder.on_window(of, window(at_s, step=step, weight=(5, 33)[step]))

    async def restarted(self, redis: Redis) -> "Kept":
        await self.recorder.flush()
        return Kept(redis, self.clock)


@pytest.fixture
def kept(redis: Redis) -> Kept:
    return Kept(redis, SetClock())


def ended(kind: str = "aborted", **fields: Any) -> Event:
    at = AT + timedelta(seconds=300)
    return Event(type=f"rollout.{kind}", app="notes", at=at, id="notes-r9", reason="errors: too many", **fields)


def summary(result: VerdictResult = VerdictResult.PASS, at_s: float = 60) -> VerdictSummary:
    return VerdictSummary(result=result, score=80, reason="no harm", at=AT + timedelta(seconds=at_s))


def second_step(**fields: Any) -> RolloutView:
    end = RolloutStepEnd(at=AT + timedelta(seconds=60), reason="no harm", verdict=summary())
    return rollout(step=1, weight=33, ended_steps=[end], **fields)


async def test_figures_of_steps_are_kept_over_a_restart(kept: Kept, redis: Redis) -> None:
    kept.windows(30, recognised=500, forced=7)
    after = await kept.restarted(redis)
    after.recorder.on_rollout(second_step())
    after.windows(20, step=1, recognised=900, forced=9)
    found = await after.recorder.read("notes-r9")
    assert found is not None
    record, points = found

    assert [(step.step, step.weight, step.seconds) for step in record.steps] == [(0, 5, 60), (1, 33, 40)]
    assert record.totals[Track.CANARY].requests == 500 and record.totals[Track.STABLE].requests == 1000
    assert sum(point.canary.requests for point in points) == 500
    assert [point.at_s for point in points] == [10, 20, 30, 40, 50, 60, 70, 80, 90, 100]
    assert (record.left_out[LeftOut.FORCED], record.recognised_share) == (9, 900 / 1500)
    assert [(each.step, each.result, each.goes_on) for each in record.verdicts] == [(0, "pass", False)]


async def test_counters_that_begin_at_0_again_lose_nothing(kept: Kept) -> None:
    kept.windows(1, recognised=10, forced=7)
    kept.windows(1, recognised=4, forced=2)
    kept.windows(1, recognised=5, forced=3)
    [record] = kept.recorder.open()
    assert (record.left_out[LeftOut.FORCED], record.counted.total["recognised"]) == (10, 15)


async def test_a_gate_is_recorded_once_however_often_it_is_seen(kept: Kept, redis: Redis) -> None:
    kept.windows(30)
    for _ in range(3):
        kept.recorder.on_rollout(rollout(hold="no visitor yet", verdict=summary(VerdictResult.INCONCLUSIVE)))
    kept.recorder.on_rollout(rollout(hold="2 more are needed", verdict=summary(VerdictResult.INCONCLUSIVE, 70)))
    after = await kept.restarted(redis)
    for _ in range(3):
        after.recorder.on_rollout(second_step())
    found = await after.recorder.read("notes-r9")
    assert found is not None

    verdicts = [(each.occasion, each.step, each.goes_on, each.reason) for each in found[0].verdicts]
    gate = Occasion.GATE
    assert verdicts == [(gate, 0, True, "2 more are needed"), (gate, 0, False, "no harm")]
    lanes = found[0].verdicts[0].verdict
    assert lanes is not None and [harm.name for harm in lanes.harms] == ["errors"]


async def test_an_abort_is_kept_with_the_verdict_of_its_evidence(kept: Kept, redis: Redis) -> None:
    kept.windows(5)
    evidence = {"rule": "analysis", "seen": {"verdict": FAILED.model_dump(mode="json")}}
    for _ in range(2):  # the event may be handled again
        await kept.recorder.on_event(ended(evidence=evidence))
    after = Kept(redis, kept.clock)
    await after.recorder.on_event(ended(evidence=evidence))
    found = await after.recorder.read("notes-r9")
    assert found is not None
    record, points = found

    assert record.ended_at == AT + timedelta(seconds=300) and record.verdict == FAILED
    assert [(each.occasion, each.reason, each.score) for each in record.verdicts] == [
        ("aborted", "errors: too many", 0)
    ]
    assert [point.canary.requests for point in points] == [50]
    assert after.recorder.open() == []


async def test_a_rollout_without_any_request_is_kept_too(kept: Kept, redis: Redis) -> None:
    await kept.recorder.on_event(ended("promoted", evidence={"ran_s": 120.0}))
    found = await Kept(redis, kept.clock).recorder.read("notes-r9")
    assert found is not None
    assert (found[0].verdict, found[0].recognised_share, found[1]) == (None, None, [])
    assert found[0].opened_at == AT + timedelta(seconds=180)


async def test_people_are_told_once_that_the_last_step_is_held_for_a_minute(kept: Kept, redis: Redis) -> None:
    held = second_step(hold="60 more are needed", verdict=summary(VerdictResult.INCONCLUSIVE, 6))
    kept.windows(3)
    kept.recorder.on_rollout(rollout(hold="no visitor yet", verdict=summary(VerdictResult.INCONCLUSIVE)))
    await kept.recorder.flush()
    assert await appended_events(redis) == []
    kept.clock.after(55)
    kept.recorder.on_rollout(held)
    await kept.recorder.flush()
    assert await appended_events(redis) == []
    for _ in range(3):
        kept.clock.after(5)
        kept.recorder.on_rollout(held)
        await kept.recorder.flush()
    after = await kept.restarted(redis)
    after.recorder.on_rollout(held)
    await after.recorder.flush()

    [event] = await appended_events(redis)
    assert (event.type, event.id, event.reason) == ("analysis.inconclusive", "notes-r9", "60 more are needed")


async def test_everything_is_deleted_30_days_after_the_last_write(kept: Kept, redis: Redis) -> None:
    kept.windows(6)
    await kept.recorder.flush()
    keys = await redis.keys("*")
    assert sorted(keys) == [
        "monitor:evidence-of:notes",
        "monitor:evidence-series:notes-r9",
        "monitor:evidence:notes-r9",
    ]
    for key in keys:
        assert KEPT_S - 60 < await redis.ttl(key) <= KEPT_S


async def test_only_the_newest_rollouts_of_an_app_are_kept(
    kept: Kept, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence_store, "OF_AN_APP_MOST", 2)
    for number in range(1, 5):
        kept.clock.after(60)
        event = ended(evidence={"ran_s": 10})
        await kept.recorder.on_event(event.model_copy(update={"id": f"notes-r{number}", "at": kept.clock()}))
    await kept.recorder.flush()
    assert await kept.recorder.read("notes-r2") is None
    assert await kept.recorder.read("notes-r3") and await kept.recorder.read("notes-r4")


async def test_nothing_is_left_of_a_removed_app_and_a_longer_name_stays(kept: Kept, redis: Redis) -> None:
    kept.windows(6)
    kept.recorder.on_window(analysis(release="notes-two-r1", app="notes-two"), window(2))
    await kept.recorder.flush()
    await kept.recorder.forget("notes")
    await kept.recorder.flush()
    assert {str(key).rpartition(":")[2] for key in await redis.keys("*")} <= {"notes-two", "notes-two-r1"}
    assert await kept.recorder.read("notes-r9") is None


async def test_while_redis_is_away_nothing_is_lost_and_all_is_shown(
    kept: Kept, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*arguments: object, **more: object) -> None:
        raise RedisError("away")

    with monkeypatch.context() as patch:
        patch.setattr(EvidenceStore, "write", away)
        patch.setattr(EvidenceStore, "read", away)
        kept.windows(6)
        with pytest.raises(RedisError):
            await kept.recorder.flush()
        found = await kept.recorder.read("notes-r9")
        assert found is not None and found[0].totals[Track.CANARY].requests == 60
    await kept.recorder.flush()
    stored = await EvidenceStore(redis).read("notes-r9")
    assert stored is not None and stored[0].totals[Track.CANARY].requests == 60


async def test_a_long_rollout_is_stored_as_short_as_it_is_in_memory(kept: Kept, redis: Redis) -> None:
    for hour in range(1, 1000):
        kept.recorder.on_window(analysis(), window(3600.0 * hour, seconds=3600))
        kept.clock.after(60)
        if hour % 50 == 0:
            await kept.recorder.flush()
    kept.clock.after(60)
    await kept.recorder.flush()
    found = await kept.recorder.read("notes-r9")
    stored = await EvidenceStore(redis).read("notes-r9")
    assert found is not None and stored is not None
    assert [point.at_s for point in stored[1]] == [point.at_s for point in found[1]]
    assert sum(point.canary.requests for point in stored[1]) == 9990 and len(stored[1]) < 721


async def test_a_stored_record_that_cannot_be_read_is_left_out(kept: Kept, redis: Redis) -> None:
    await redis.set("monitor:evidence:notes-r9", json.dumps({"app": 1}))
    assert await kept.recorder.read("notes-r9") is None
    kept.windows(1)
    await kept.recorder.flush()
    assert await EvidenceStore(redis).read("notes-r9") is not None


def test_the_verdict_for_hooks_is_that_of_the_last_window(kept: Kept) -> None:
    assert kept.recorder.verdict("notes-r9") is None
    kept.windows(1)
    kept.windows(1, says=FAILED)
    found = kept.recorder.verdict("notes-r9")
    assert found is not None and (found.result, found.score) == (VerdictResult.FAIL, 0)
