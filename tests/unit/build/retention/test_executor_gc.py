"""Objects of ended builds and deleted apps are removed from the executor, and no others."""

import asyncio
from typing import Any, cast

import pytest

from services.build.builds import build as domain
from services.build.builds.app import App
from services.build.builds.build_store import BuildStore
from services.build.executors.executor import Executor, ExecutorObjects
from services.build.retention.executor_gc import ExecutorGc
from shared.models import BuildState
from tests.support.build.builds import AT
from tests.support.build.builds import build as a_build

pytestmark = pytest.mark.anyio


class Left:
    """An executor that keeps what it is given; `between` is done after it has looked."""

    def __init__(self, builds: set[str], apps: set[str]) -> None:
        self.found = ExecutorObjects(frozenset(builds), frozenset(apps))
        self.removed: ExecutorObjects | None = None
        self.between: Any = lambda: asyncio.sleep(0)

    async def objects(self) -> ExecutorObjects:
        found = self.found
        await self.between()
        return found

    async def remove(self, objects: ExecutorObjects) -> None:
        self.removed = objects


async def test_only_what_has_ended_or_was_deleted_is_removed(store: BuildStore) -> None:
    await store.add_app(App(name="notes", branches={}, created_at=AT))
    for number in (1, 2):
        await store.add(a_build(number), is_head=False)
    await store.update("notes-1", lambda build: domain.ended(build, BuildState.CANCELLED, "enough", AT))
    executor = Left({"notes-1", "notes-2", "gone-1"}, {"notes", "gone"})
    await ExecutorGc(store, cast(Executor, executor)).step()
    assert executor.removed == ExecutorObjects(frozenset({"notes-1", "gone-1"}), frozenset({"gone"}))


async def test_a_build_that_begins_meanwhile_is_left_alone(store: BuildStore) -> None:
    executor = Left({"notes-1"}, set())

    async def begin() -> None:
        await store.add(a_build(1), is_head=False)

    executor.between = begin
    await ExecutorGc(store, cast(Executor, executor)).step()
    assert executor.removed == ExecutorObjects(frozenset(), frozenset())
