"""A search finds the builds that match a filter, and its pages follow each other."""

import pytest

from services.build.builds.build import Build
from services.build.builds.build_query import Filter, find, judged_before
from services.build.builds.build_store import BuildStore
from shared.models import BuildState, Environment
from tests.support.build.builds import build

pytestmark = pytest.mark.anyio


async def add(store: BuildStore, *builds: Build) -> None:
    for each in builds:
        await store.add(each, is_head=False)


async def pages_of(store: BuildStore, wanted: Filter, limit: int, **bounds: int) -> list[list[str]]:
    pages, before = [], None
    while True:
        found = await find(store, wanted, limit=limit, before=before, **bounds)
        pages.append([each.id for each in found.builds])
        if found.following is None:
            return pages
        before = found.following


@pytest.mark.parametrize(
    ("wanted", "ids"),
    [
        (Filter(), ["other-1", "notes-3", "notes-2", "notes-1"]),
        (Filter(app="notes"), ["notes-3", "notes-2", "notes-1"]),
        (Filter(branch="dev"), ["notes-2"]),
        (Filter(states=(BuildState.FAILURE, BuildState.SUCCESS)), ["notes-3", "notes-2"]),
        (Filter(environment=Environment.CANARY), ["notes-2"]),
        (Filter(commit="ab"), ["notes-3"]),
        (Filter(app="other", branch="dev"), []),
    ],
)
async def test_each_filter_finds_its_builds(store: BuildStore, wanted: Filter, ids: list[str]) -> None:
    await add(
        store,
        build(1),
        build(2, branch="dev", environment=Environment.CANARY, state=BuildState.SUCCESS),
        build(3, commit="ab" * 20, state=BuildState.FAILURE),
        build(1, app="other"),
    )
    assert [each.id for each in (await find(store, wanted, limit=9)).builds] == ids


async def test_pages_under_a_filter_hold_each_build_once_and_end(store: BuildStore) -> None:
    await add(store, *(build(n, branch="dev" if n % 3 == 0 else "release") for n in range(1, 13)))
    assert await pages_of(store, Filter(branch="dev"), 2) == [["notes-12", "notes-9"], ["notes-6", "notes-3"]]


async def test_a_search_that_finds_little_ends_at_its_bound_and_goes_on(store: BuildStore) -> None:
    bounds = {"batch_size": 2, "scanned_at_most": 4}
    await add(store, build(1, branch="dev"), *(build(n) for n in range(2, 10)))
    first = await find(store, Filter(branch="dev"), limit=5, **bounds)
    assert (first.builds, first.scanned, first.following is not None) == ([], 4, True)
    assert await pages_of(store, Filter(branch="dev"), 5, **bounds) == [[], [], ["notes-1"]]


async def test_the_build_before_is_the_last_judged_one_of_the_branch(store: BuildStore) -> None:
    await add(
        store,
        build(1, state=BuildState.FAILURE),
        build(2, state=BuildState.CANCELLED),
        build(3, branch="dev", state=BuildState.SUCCESS),
        build(4, state=BuildState.SUCCESS),
        build(5, state=BuildState.SUCCESS),
    )
    before = await judged_before(store, await store.build("notes-4"))
    assert before is not None and before.id == "notes-1"
    assert await judged_before(store, await store.build("notes-1")) is None
