import pytest
from redis.asyncio import Redis

from services.build.gates.baseline import Baseline
from services.build.gates.flaky import RUNS_KEPT, PastRun, Quarantine
from services.build.gates.history_store import HistoryStore
from shared.errors import NotFound
from tests.support.build.builds import AT

pytestmark = pytest.mark.anyio


@pytest.fixture
def store(redis: Redis) -> HistoryStore:
    return HistoryStore(redis)


def run(number: int, step: str = "test", failed: tuple[str, ...] = ("a::b",)) -> PastRun:
    return PastRun(build=f"notes-{number}", commit="c", step=step, at=AT, failed=list(failed), passed=["0123"])


def quarantine(test: str, reason: str = "flips") -> Quarantine:
    return Quarantine(test=test, step="test", until=AT, reason=reason, since=AT, flips=1)


async def test_a_baseline_belongs_to_a_branch(store: HistoryStore) -> None:
    assert await store.baseline("notes", "dev") is None
    for build in ("notes-1", "notes-2"):
        await store.put_baseline("notes", "dev", Baseline(build=build, commit="c", findings={"f": 2}))
    assert await store.baseline("notes", "dev") == Baseline(build="notes-2", commit="c", findings={"f": 2})
    assert await store.baseline("notes", "release") is None
    assert await store.baseline("other", "dev") is None


async def test_the_last_runs_are_kept_newest_first(store: HistoryStore) -> None:
    assert await store.runs("notes") == []
    for number in range(RUNS_KEPT + 5):
        await store.record("notes", run(number), [], [])
    kept = await store.runs("notes")
    assert (len(kept), kept[0]) == (RUNS_KEPT, run(RUNS_KEPT + 4))
    assert await store.runs("other") == []


async def test_a_run_that_is_recorded_again_is_merged_with_the_first(store: HistoryStore) -> None:
    for each in (run(1), run(1, step="lint"), run(2), run(1), run(1, failed=("c::d",)), run(1, failed=("c::d",))):
        await store.record("notes", each, [], [])
    assert await store.runs("notes") == [run(1, failed=("a::b", "c::d")), run(2), run(1, step="lint")]


async def test_quarantines_come_and_go_with_a_run_or_by_hand(store: HistoryStore) -> None:
    await store.record("notes", run(1), [quarantine("a"), quarantine("b")], ["never there"])
    await store.record("notes", run(2), [quarantine("a", "again")], ["b"])
    await store.put_quarantine("notes", quarantine("c/d::e[f g]"))
    assert await store.quarantines("notes") == {"a": quarantine("a", "again"), "c/d::e[f g]": quarantine("c/d::e[f g]")}
    await store.drop_quarantine("notes", "a")
    with pytest.raises(NotFound, match="GET /apps/notes/tests/flaky"):
        await store.drop_quarantine("notes", "a")


async def test_an_app_is_forgotten_and_no_other(store: HistoryStore) -> None:
    for app in ("notes", "other"):
        await store.put_baseline(app, "dev", Baseline(build="b", commit="c"))
        await store.record(app, run(1), [quarantine("a")], [])
    await store.forget("notes")
    assert await store.baseline("notes", "dev") is None
    assert (await store.runs("notes"), await store.quarantines("notes")) == ([], {})
    assert await store.baseline("other", "dev") is not None
    assert len(await store.runs("other")) == len(await store.quarantines("other")) == 1
