"""The retention policy decides which logs, artifacts and records expire."""

import os
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from redis.asyncio import Redis

from services.build.builds import build as domain
from services.build.builds.app import new_app
from services.build.builds.build import Build, Expired
from services.build.builds.build_store import BuildStore
from services.build.executors.executor import Images
from services.build.gates.report_archive import ReportFiles
from services.build.gates.report_record import BuildReport
from services.build.logs.build_log import BuildLogs
from services.build.retention.retention_job import SLACK, RetentionJob
from services.build.retention.retention_policy import RetentionPolicy, due
from shared.errors import Unavailable
from shared.http import ServiceClient
from shared.models import Artifact, BuildState
from shared.store import RedisError
from tests.support.build.builds import AT, build

POLICY = RetentionPolicy(days=90, logs=2, artifacts=2, records=100)
OLD, YOUNG = AT - timedelta(days=91), AT - timedelta(days=89)


def passed(number: int, *, ref: str | None = None, **changes: Any) -> Build:
    artifact = Artifact(kind="directory", ref=ref or f"/releases/notes/notes-{number}", digest="sha256:0")
    fields = {"state": BuildState.SUCCESS, "finished_at": OLD, "artifact": artifact, "passed": True}
    return build(number, **{**fields, **changes})


def ids(builds: list[Build]) -> list[int]:
    return [each.number for each in builds]


def test_old_logs_go_but_not_the_last_of_a_branch() -> None:
    builds = [passed(5), passed(4), passed(3, branch="dev"), passed(2), passed(1, finished_at=YOUNG)]
    assert ids(due(builds, POLICY, set(), AT, deleted=False).logs) == [2]
    assert ids(due(builds, POLICY, set(), AT, deleted=True).logs) == [5, 4, 3, 2]


def test_what_has_not_ended_or_expired_before_is_not_due() -> None:
    builds = [build(9, state=BuildState.RUNNING, created_at=OLD), passed(1, expired=Expired(log=AT, artifact=AT))]
    found = due(builds, RetentionPolicy(90, 0, 0, 0), {"notes-1"}, AT, deleted=True)
    assert (found.logs, found.artifacts, found.records) == ([], [], [])


def test_artifacts_beyond_the_last_go_unless_a_kept_build_shares_them() -> None:
    builds = [passed(5), passed(4, ref="/shared"), passed(3, ref="/shared"), passed(2), passed(1)]
    assert ids(due(builds, POLICY, set(), AT, deleted=False).artifacts) == [2, 1]
    image = passed(1, artifact=Artifact(kind="image", ref="slipway/x:1", digest="sha256:0"))
    assert due([passed(3), passed(2), image], POLICY, set(), AT, deleted=False).artifacts == []


def test_an_unended_build_keeps_the_artifact_that_it_shares() -> None:
    deploying = passed(9, ref="/shared", state=BuildState.RUNNING)
    found = due([deploying, passed(3), passed(2), passed(1, ref="/shared")], POLICY, set(), AT, deleted=False)
    assert found.artifacts == []


def test_records_go_last_and_never_the_judged_one_of_a_branch() -> None:
    policy = RetentionPolicy(days=90, logs=1, artifacts=1, records=1)
    bare: dict[str, Any] = {"expired": Expired(log=AT, artifact=AT)}
    builds = [passed(4), passed(3, **bare), passed(2, **bare), passed(1)]
    found = due(builds, policy, {"notes-3"}, AT, deleted=False)
    assert (ids(found.records), ids(found.logs), ids(found.artifacts)) == ([2], [1], [1])


class Store(BuildStore):
    """A store that is out of reach after `notes_left` notes."""

    notes_left = 99

    async def note(self, build_id: str, expired: Expired) -> Build:
        self.notes_left -= 1
        if self.notes_left < 0:
            raise RedisError("away")
        return await super().note(build_id, expired)


class World:
    """Builds with real folders, logs and reports; a deployer that knows `released`."""

    def __init__(self, folder: Path, redis: Redis) -> None:
        self.store = Store(redis)
        self.logs, self.reports = BuildLogs(folder / "logs"), ReportFiles(folder / "reports")
        self.releases = folder / "releases"
        self.released: list[str] = []
        self.answers = True
        self.images: Images | None = None
        self.now = AT
        self.is_trusted = True
        self.job = RetentionJob(
            self.store,
            self.logs,
            self.reports,
            self.releases,
            cast(ServiceClient, self),
            self.listed,
            POLICY,
            lambda: self.now,
            self.trusts_clock,
        )

    async def trusts_clock(self, now: datetime) -> bool:
        return self.is_trusted

    async def listed(self) -> Images | None:
        return self.images

    async def call(self, method: str, path: str, *, params: dict[str, Any]) -> Any:
        """The deployer, a page of one release each."""
        if not self.answers:
            raise Unavailable("deployer does not answer")
        if not path.endswith("production/releases"):
            return {"items": [], "next": None}
        at = int(params.get("cursor", 0))
        items = [
            {"id": "r", "app": "notes", "environment": "production", "build": each, "commit": "0" * 40}
            | {"state": "retired", "created_at": AT}
            for each in self.released[at : at + 1]
        ]
        return {"items": items, "next": str(at + 1) if at + 1 < len(self.released) else None}

    async def add(self, number: int, artifact: Artifact | None = None) -> None:
        """Adds a build that passed; its artifact is a folder unless another is given."""
        folder = self.releases / "notes" / f"notes-{number}"
        folder.mkdir(parents=True)
        self.logs.say(f"notes-{number}", "said")
        self.reports.write(f"notes-{number}", BuildReport())
        artifact = artifact or Artifact(kind="directory", ref=str(folder), digest="sha256:0")
        await self.store.add(build(number), is_head=False)
        await self.store.update(f"notes-{number}", lambda stored: domain.started(stored, OLD))
        await self.store.update(f"notes-{number}", lambda stored: domain.sealed(stored, artifact, OLD))
        await self.store.update(f"notes-{number}", _ending)

    def folders(self) -> list[str]:
        return sorted(path.name for path in (self.releases / "notes").iterdir())

    async def later(self) -> None:
        self.now += SLACK + timedelta(seconds=1)
        await self.job.step()


def _ending(stored: Build) -> Build:
    return domain.ended(stored, BuildState.SUCCESS, "done", OLD)


@pytest.fixture
async def empty_world(tmp_path: Path, redis: Redis) -> World:
    world = World(tmp_path, redis)
    await world.store.add_app(new_app("notes", AT))
    return world


@pytest.fixture
async def world(empty_world: World) -> World:
    for number in range(1, 6):
        await empty_world.add(number)
    return empty_world


@pytest.mark.anyio
async def test_what_expires_is_noted_first_and_then_removed(world: World) -> None:
    await world.job.step()
    assert sorted(path.name for path in world.logs.folder.iterdir()) == ["notes-4.log", "notes-5.log"]
    assert sorted(path.name for path in world.reports.folder.iterdir()) == ["notes-4.json.gz", "notes-5.json.gz"]
    first = await world.store.build("notes-1")
    assert (first.expired.log, first.expired.artifact) == (AT, AT)
    world.now += SLACK - timedelta(seconds=1)
    await world.job.step()
    assert len(world.folders()) == 5
    await world.later()
    assert world.folders() == ["notes-4", "notes-5"]
    assert (await world.store.build("notes-1")).expired.artifact == AT


@pytest.mark.anyio
async def test_a_clock_that_cannot_be_trusted_makes_no_log_old(world: World) -> None:
    """A year ahead, all of them are. What goes by number goes."""
    world.is_trusted = False
    world.now += timedelta(days=365)
    await world.job.step()
    assert len(list(world.logs.folder.iterdir())) == 5
    assert len(list(world.reports.folder.iterdir())) == 5
    assert (await world.store.build("notes-1")).expired.log is None
    world.is_trusted = True
    await world.job.step()
    assert len(list(world.logs.folder.iterdir())) == 2


@pytest.mark.anyio
async def test_an_artifact_of_any_release_stays(world: World) -> None:
    world.released = ["notes-2", "notes-1"]
    await world.job.step()
    await world.later()
    assert world.folders() == ["notes-1", "notes-2", "notes-4", "notes-5"]
    assert (await world.store.build("notes-1")).expired.artifact is None


@pytest.mark.anyio
async def test_a_release_that_came_between_note_and_removal_keeps_its_artifact(world: World) -> None:
    await world.job.step()
    world.released = ["notes-1"]
    await world.later()
    assert world.folders() == ["notes-1", "notes-4", "notes-5"]


@pytest.mark.anyio
async def test_no_answer_of_the_deployer_removes_no_artifact(world: World) -> None:
    world.answers = False
    await world.job.step()
    await world.later()
    assert len(world.folders()) == 5
    assert (await world.store.build("notes-1")).expired == Expired(log=AT)


@pytest.mark.anyio
async def test_what_the_deployer_has_removed_is_noted(world: World) -> None:
    (world.releases / "notes" / "notes-5").rmdir()
    world.answers = False
    await world.job.step()
    assert (await world.store.build("notes-5")).expired.artifact == AT


@pytest.mark.anyio
async def test_an_image_that_the_deployer_has_removed_is_noted(world: World) -> None:
    images = (6, 7)
    for number in images:
        await world.add(number, Artifact(kind="image", ref=f"slipway/notes:{number}", digest=f"sha256:{number}"))
    await world.job.step()
    assert (await world.store.build("notes-6")).expired.artifact is None, "the engine did not answer"
    world.images = frozenset({("slipway/notes:6", "sha256:another"), ("slipway/notes:7", "sha256:7")})
    await world.job.step()
    expired = [(await world.store.build(f"notes-{number}")).expired.artifact for number in images]
    assert expired == [AT, None]


@pytest.mark.anyio
async def test_a_folder_elsewhere_is_never_removed(empty_world: World, tmp_path: Path) -> None:
    world, precious = empty_world, tmp_path / "precious"
    precious.mkdir()
    await world.add(1, Artifact(kind="directory", ref=str(precious), digest="sha256:0"))
    for number in (2, 3):
        await world.add(number)
    await world.job.step()
    await world.later()
    assert (await world.store.build("notes-1")).expired.artifact == AT
    assert precious.is_dir()


@pytest.mark.anyio
async def test_files_without_a_record_go_when_they_are_old(world: World) -> None:
    for name, age in (("gone-1", 91), ("gone-2", 1)):
        world.logs.say(name, "said")
        at = (AT - timedelta(days=age)).timestamp()
        os.utime(world.logs.path(name), (at, at))
    await world.job.step()
    assert not world.logs.path("gone-1").exists()
    assert world.logs.path("gone-2").exists()


@pytest.mark.anyio
@pytest.mark.parametrize("calls", range(1, 6))
async def test_a_step_may_end_anywhere_and_is_repeated(world: World, calls: int) -> None:
    """The store breaks off at each of its notes in turn."""
    world.store.notes_left = calls
    with pytest.raises(RedisError):
        await world.job.step()
    world.store.notes_left = 99
    await world.job.step()
    await world.later()
    assert world.folders() == ["notes-4", "notes-5"]
    assert sorted(path.name for path in world.logs.folder.iterdir()) == ["notes-4.log", "notes-5.log"]
