"""The retention job goes through the builds of all apps."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import cast

import pytest
from redis.asyncio import Redis

from services.build.builds.app import new_app
from services.build.builds.build import Build
from services.build.builds.build_store import BuildStore
from services.build.gates.report_archive import ReportFiles
from services.build.logs.build_log import BuildLogs
from services.build.retention.retention_job import RetentionJob
from services.build.retention.retention_policy import RetentionPolicy
from shared.http import ServiceClient
from shared.models import BuildState
from shared.runtime.clock_store import ClockTrust
from tests.support.build.builds import AT, build

pytestmark = pytest.mark.anyio


class WatchedStore(BuildStore):
    """`asked`: the apps whose builds were read, in this order."""

    def __init__(self, redis: Redis) -> None:
        super().__init__(redis)
        self.asked: list[str] = []

    async def every(self, app: str) -> AsyncIterator[Build]:
        self.asked.append(app)
        async for each in super().every(app):
            yield each


async def no_images() -> None:
    return None


async def test_the_builds_of_one_app_at_a_time_are_in_memory(redis: Redis, tmp_path: Path) -> None:
    store, logs = WatchedStore(redis), BuildLogs(tmp_path / "logs")
    for app in ("notes", "two-words"):
        await store.put_app(new_app(app, AT))
    for app in ("notes", "two-words", "deleted"):
        for number in (1, 2, 3):
            ended = build(number, app=app, state=BuildState.FAILURE, finished_at=AT)
            await store.add(ended, is_head=False)
            logs.say(ended.id, "it failed")
    deployer = cast(ServiceClient, None)  # nothing is asked of it, for there are no artifacts
    policy = RetentionPolicy(days=1, logs=1, artifacts=1, records=2)
    trusts = ClockTrust(redis, "build:clock").is_trusted
    later = AT + timedelta(2)
    reports = ReportFiles(tmp_path / "reports")
    job = RetentionJob(store, logs, reports, tmp_path, deployer, no_images, policy, lambda: later, trusts)

    await job.step()

    assert store.asked == ["deleted", "notes", "two-words"]
    assert await store.ids() == {f"{app}-{number}" for app in ("notes", "two-words", "deleted") for number in (2, 3)}
    assert sorted(path.name for path in logs.folder.glob("*.log")) == ["notes-3.log", "two-words-3.log"]
