import asyncio

import pytest
from redis.asyncio import Redis

from services.build.builds import build as domain
from services.build.builds.build import Build, StopRequest
from services.build.builds.build_recorder import BuildRecorder
from services.build.builds.build_steps import step_finished, step_started
from services.build.builds.build_store import BuildStore, Change
from services.build.gates.flaky import FlakyTest
from services.build.gates.gate import GateResult
from services.build.reports.metric import Offender
from services.build.system.stop import Stop as StopEvent
from services.build.system.stop import Stopped
from shared.manifest import Stage
from shared.models import BuildState
from shared.security.mask import Mask
from shared.store import RedisError
from tests.support.build.builds import AT, build, events_in

pytestmark = pytest.mark.anyio
S = BuildState


class FlakyStore(BuildStore):
    """Out of reach for a number of updates."""

    down_for = 0

    async def update(self, build_id: str, change: Change) -> Build:
        if self.down_for > 0:
            self.down_for -= 1
            raise RedisError("away")
        return await super().update(build_id, change)


async def recorder_of(store: BuildStore, one: Build, stop: StopEvent | None = None) -> BuildRecorder:
    await store.add(one, is_head=True)
    recorder = BuildRecorder(store, one.id, stop or StopEvent(), lambda: AT)
    await recorder.load()
    return recorder


async def test_an_update_waits_for_the_store_and_is_made_once(redis: Redis) -> None:
    store = FlakyStore(redis)
    recorder = await recorder_of(store, build())
    store.down_for = 1
    await recorder.update(lambda stored: domain.started(stored, AT))
    assert (await store.build("notes-1")).attempt == 1
    assert [event.type for event in await events_in(redis)] == ["build.queued", "build.running"]


async def test_the_wait_ends_when_the_build_is_to_stop(redis: Redis) -> None:
    store, stop = FlakyStore(redis), StopEvent()
    recorder = await recorder_of(store, build(), stop)
    store.down_for = 10**9
    waiting = asyncio.create_task(recorder.update(lambda stored: domain.started(stored, AT)))
    await asyncio.sleep(0.01)
    stop.set()
    with pytest.raises(Stopped):
        await asyncio.wait_for(waiting, 5)


async def test_a_build_that_is_to_stop_is_not_changed_any_more(store: BuildStore) -> None:
    intent = StopRequest(state=S.CANCELLED, reason="by hand")
    recorder = await recorder_of(store, build(state=S.RUNNING, stop=intent))
    with pytest.raises(Stopped):
        await recorder.update(lambda stored: domain.with_changes(stored, passed=True))
    assert (await store.build("notes-1")).passed is False


@pytest.mark.parametrize(
    ("before", "recovered"), [(S.FAILURE, True), (S.ERROR, True), (S.SUCCESS, False), (S.CANCELLED, False)]
)
async def test_a_success_after_a_failure_has_recovered(store: BuildStore, before: BuildState, recovered: bool) -> None:
    await store.add(build(1, state=S.RUNNING), is_head=True)
    await store.update("notes-1", lambda stored: domain.ended(stored, before, "", AT))
    recorder = await recorder_of(store, build(2, state=S.RUNNING))
    await recorder.end(S.SUCCESS, "live")
    assert (await store.build("notes-2")).recovered is recovered
    assert (await store.build("notes-2")).reason == "live"


async def test_what_is_hidden_is_not_stored_nor_told(store: BuildStore, redis: Redis) -> None:
    word = "hunter2"
    recorder = await recorder_of(store, build())
    recorder.mask = Mask([word])
    offender = Offender(file=f"{word}.py", line=1, message=f"is {word}")
    gate = GateResult(name="findings", passed=False, reason=f"1 ({word})", offenders=[offender, Offender(message=word)])
    flaky = FlakyTest(test=f"a[{word}]", step="test", until=AT, what=f"says {word}")
    await recorder.update(lambda stored: domain.started(stored, AT))
    await recorder.update(lambda stored: step_started(stored, "test", Stage.TEST, AT))
    await recorder.update(lambda stored: step_finished(stored, "test", 1, f"no {word}", AT))
    await recorder.update(lambda stored: domain.with_changes(stored, gates=[gate], flaky=[flaky], excerpt=f"E {word}"))
    assert word not in (await store.build("notes-1")).model_dump_json()
    await recorder.end(S.FAILURE, f"gate findings: {word}")
    stored = await store.build("notes-1")
    sent = [await redis.xrange("events"), await redis.hgetall("build:statuses")]
    assert word not in stored.model_dump_json() + str(sent)
    assert [str(each) for each in stored.gates[0].offenders] == ["***.py:1 is ***", "***"]
    assert (stored.reason, stored.excerpt, stored.steps[0].reason) == ("gate findings: ***", "E ***", "no ***")
