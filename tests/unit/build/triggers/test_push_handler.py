"""From repositories to queued builds, whatever one of them holds."""

import asyncio
import os
import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from redis.asyncio import Redis

from services.build.builds.build import ended
from services.build.builds.build_store import BuildStore
from services.build.git.ref_stamp import TICK_NS
from services.build.git.repository import Repositories
from services.build.logs.build_log import BuildLogs
from services.build.triggers.push_handler import REFS_SHOWN, PushHandler
from shared.errors import Invalid
from shared.models import BuildState, Environment
from shared.store import RedisError

pytestmark = pytest.mark.anyio
AT = datetime(2026, 1, 1, tzinfo=UTC)
NOBODY = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b"}


class World:
    """`runs` holds what the handler's git was asked, one line for each process."""

    def __init__(self, folder: Path, redis: Redis) -> None:
        self.store = BuildStore(redis)
        self.runs = folder / "runs"
        self.runs.touch()
        git = folder / "counted" / "git"
        git.parent.mkdir()
        git.write_text(f"""#!/bin/sh\necho "$@" >> {self.runs}\nexec {shutil.which("git")} "$@"\n""")
        git.chmod(0o755)
        self.repositories = Repositories(folder / "repositories", f"{git.parent}:{os.environ['PATH']}")
        self._logs = BuildLogs(folder / "logs")
        self.push_handler = self.handler()

    def handler(self) -> PushHandler:
        """Returns the handler of a service that has just started."""
        return PushHandler(
            self.store, self.repositories, self._logs, wake=lambda: None, url="http://build", now=lambda: AT
        )

    async def processes(self) -> int:
        """Returns the number of git processes that one round of reconciling starts."""
        self.runs.write_text("")
        await self.push_handler.reconcile()
        return len(self.runs.read_text().splitlines())

    def age(self) -> None:
        """Makes the files that git wrote since the last call older than a tick of the file system's clock."""
        for path in self.repositories.folder.rglob("*"):
            changed_ns = path.stat().st_mtime_ns
            if time.time_ns() - changed_ns < TICK_NS:
                os.utime(path, ns=(changed_ns, changed_ns - 2 * TICK_NS))

    async def settle(self) -> None:
        self.age()
        for _ in range(2):  # the first round may make the app
            await self.push_handler.reconcile()
        assert await self.processes() == 0

    def commit(self, app: str, ref: bytes = b"refs/heads/release", message: str = "change") -> str:
        self.repositories.ensure(app)
        tree = self._git(app, "mktree", "--batch")
        commit = self._git(app, "commit-tree", "-m", message, tree)
        self._git(app, "update-ref", os.fsdecode(ref), commit)
        return commit

    async def built(self) -> list[str]:
        return sorted(build.id for build in await self.store.unended())

    async def told(self, app: str, *refs: bytes) -> str:
        updates = [f"{'0' * 40} {'1' * 40} {ref.decode(errors='surrogateescape')}" for ref in refs]
        return b"".join([data async for data in self.push_handler.report(app, updates)]).decode()

    def _git(self, app: str, *arguments: str) -> str:
        command = ["git", "--git-dir", str(self.repositories.path(app)), *arguments]
        environment = {**os.environ, **NOBODY}
        return subprocess.run(
            command, env=environment, input="\n", capture_output=True, text=True, check=True
        ).stdout.strip()


@pytest.fixture
def world(tmp_path: Path, redis: Redis) -> World:
    return World(tmp_path, redis)


async def test_an_app_whose_repository_cannot_be_read_keeps_no_other_waiting(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    for app in ("broken", "notes", "worse"):
        world.commit(app)
    for app in ("broken", "worse"):
        (world.repositories.path(app) / "packed-refs").write_text("no refs\n")
    for _ in range(2):
        with pytest.raises(RuntimeError, match=r"broken: GitFailed: .*; worse: GitFailed: "):
            await world.push_handler.reconcile()
    assert await world.built() == ["notes-1"]
    said = [record.getMessage() for record in caplog.records]
    assert said == [f"what was pushed to {app} cannot be queued" for app in ("broken", "worse")], "once, not every 3 s"
    for app in ("broken", "worse"):
        (world.repositories.path(app) / "packed-refs").unlink()
    await world.push_handler.reconcile()
    assert await world.built() == ["broken-1", "notes-1", "worse-1"]


async def test_idle_apps_cost_no_process_however_many(world: World) -> None:
    apps = [f"app-{number}" for number in range(10)]
    for app in apps:
        world.commit(app)
    await world.settle()
    world.commit("app-3", b"refs/heads/dev")
    assert await world.processes() == 2, "those of the one that has changed"
    assert await world.built() == sorted([f"{app}-1" for app in apps] + ["app-3-2"])


async def test_a_change_within_a_tick_of_the_file_systems_clock_is_read(world: World) -> None:
    """The second push leaves sizes, inodes and times as they were after the first."""
    world.commit("notes")
    for _ in range(2):  # the first makes the app
        await world.push_handler.reconcile()
    path = world.repositories.path("notes") / "refs" / "heads" / "release"
    before = {each: each.stat() for each in (path, path.parent)}
    second = world.commit("notes", b"refs/elsewhere", "the second")
    path.write_text(f"{second}\n")
    for each, stat in before.items():
        os.utime(each, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    await world.push_handler.reconcile()
    assert await world.built() == ["notes-1", "notes-2"]


async def test_a_push_that_a_killed_service_received_is_built_by_the_next(world: World) -> None:
    world.commit("notes")
    await world.settle()
    world.commit("notes", message="received, and not queued")
    world.age()
    world.push_handler = world.handler()
    await world.push_handler.reconcile()
    assert await world.built() == ["notes-1", "notes-2"]


async def test_a_push_that_could_not_be_queued_is_read_again(world: World, redis: Redis) -> None:
    world.commit("notes")
    world.age()
    await redis.set("build:number:notes", "no number")
    with pytest.raises(RedisError):
        await world.push_handler.reconcile()
    await redis.delete("build:number:notes")
    await world.push_handler.reconcile()
    assert await world.built() == ["notes-1"]


async def test_a_branch_that_is_deleted_and_comes_again_is_built_again(world: World) -> None:
    commit = world.commit("notes")
    world.repositories.git("notes", "pack-refs", "--all", "--prune")
    await world.settle()
    world.repositories.git("notes", "update-ref", "-d", "refs/heads/release")
    await world.settle()
    world.repositories.git("notes", "update-ref", "refs/heads/release", commit)
    await world.settle()
    assert await world.built() == ["notes-1", "notes-2"]


async def test_a_branch_that_is_newly_mapped_is_built(world: World) -> None:
    world.commit("notes", b"refs/heads/main")
    await world.settle()
    app = await world.store.app("notes")
    await world.store.put_app(app.model_copy(update={"branches": {"main": Environment.PRODUCTION}}))
    await world.settle()
    assert await world.built() == ["notes-1"]


async def test_an_app_that_redis_has_lost_is_made_and_built_again(world: World, redis: Redis) -> None:
    world.commit("notes")
    await world.settle()
    await redis.flushdb()
    await world.push_handler.reconcile()
    assert await world.built() == ["notes-1"]
    await world.settle()


async def test_a_retry_of_an_older_commit_is_no_newer_push(world: World) -> None:
    world.commit("notes", message="first")
    await world.push_handler.reconcile()
    first = await world.store.update("notes-1", lambda build: ended(build, BuildState.CANCELLED, "by hand", AT))
    head_again = await world.push_handler.retry(first)
    head = world.commit("notes", message="second")
    again = await world.push_handler.retry(first)
    by_branch = await world.push_handler.queue("notes", branch="release", commit=None)
    assert [(each.commit, each.branch, each.off_head) for each in (head_again, again, by_branch)] == [
        (first.commit, "release", False),
        (first.commit, "release", True),
        (head, "release", False),
    ]
    assert (again.environment, again.reported_branch) == (Environment.PRODUCTION, None), "no badge of the branch"


async def test_a_commit_of_another_branch_is_judged_where_it_is_to_go(world: World) -> None:
    world.commit("notes", message="production")
    canary = world.commit("notes", b"refs/heads/dev", message="canary")
    await world.push_handler.reconcile()
    judged = await world.push_handler.queue("notes", branch="release", commit=canary)
    assert (judged.branch, judged.environment, judged.off_head) == ("release", Environment.PRODUCTION, True)
    assert judged.fresh, "it runs its steps, whatever passed on dev"

    app = await world.store.app("notes")
    await world.store.change_app(app.model_copy(update={"branches": {"main": Environment.PRODUCTION}}))
    first = await world.push_handler.queue("notes", branch="main", commit=canary)
    assert (first.environment, first.off_head) == (Environment.PRODUCTION, True), "nothing was pushed to it yet"
    with pytest.raises(Invalid, match="no branch other"):
        await world.push_handler.queue("notes", branch="other", commit=canary)


async def test_refs_in_any_encoding_are_told_as_a_terminal_may_show_them(world: World) -> None:
    world.commit("notes", b"refs/heads/caf\xe9")
    shown = await world.told(
        "notes", b"refs/heads/caf\xe9", "refs/heads/x\x9b2Jy".encode(), "refs/heads/größe".encode()
    )
    nothing = "is not mapped to an environment; nothing to build (mapped: dev to canary, release to production)"
    assert shown == "".join(f"{name} {nothing}\n" for name in ("caf?", "x�2Jy", "größe"))


async def test_of_many_refs_some_are_told_and_the_others_counted(world: World) -> None:
    world.commit("notes")
    shown = (await world.told("notes", *(b"refs/heads/b%d" % number for number in range(10_000)))).splitlines()
    assert len(shown) == REFS_SHOWN + 1
    assert shown[-1] == f"and {10_000 - REFS_SHOWN} more refs, with nothing to build"


async def test_a_git_that_hangs_holds_up_no_other_work_of_the_service(world: World, tmp_path: Path) -> None:
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    world.repositories.ensure("notes")
    git = tmp_path / "bin" / "git"
    git.parent.mkdir()
    git.write_text(f"#!/bin/sh\ntouch {tmp_path}/hangs\nwhile [ ! -e {tmp_path}/over ]; do sleep 0.05; done\nexit 1\n")
    git.chmod(0o755)
    hanging = Repositories(world.repositories.folder, f"{git.parent}:{os.environ['PATH']}")
    push_handler = PushHandler(
        world.store, hanging, BuildLogs(tmp_path / "logs"), wake=lambda: None, url="http://build", now=lambda: AT
    )
    asked = asyncio.gather(*(push_handler.has("notes", "a" * 40) for _ in range(4)))
    while not (tmp_path / "hangs").exists():
        await asyncio.sleep(0.02)
    assert await asyncio.wait_for(asyncio.to_thread(lambda: "answered"), 5) == "answered"
    (tmp_path / "over").touch()
    assert await asked == [False] * 4
