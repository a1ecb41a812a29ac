"""Hosted repositories are packed, and no commit that a build is of is lost by that. Real git."""

import asyncio
import os
import subprocess
import time
from pathlib import Path

import pytest
from redis.asyncio import Redis

from services.build.builds.build import Build
from services.build.builds.build_store import BuildStore
from services.build.git.pre_receive_objects import PreReceiveObjects
from services.build.git.repository import Repositories
from services.build.retention.repository_gc import KEPT, RepositoryGc
from shared.models import BuildState
from tests.support.build.builds import build
from tests.support.build.service import eventually, git_environment

pytestmark = pytest.mark.anyio
APP = "notes"
A_MONTH_S = 30 * 24 * 3600
# As pushes over HTTP are received: each leaves a pack.
RECEIVE_PACK = "git -c receive.unpackLimit=1 -c receive.autogc=false receive-pack"


class Hosted:
    """A repository, and a developer who pushes to it."""

    def __init__(self, folder: Path, redis: Redis) -> None:
        self.repositories = Repositories(folder / "repositories", os.environ["PATH"])
        self.store = BuildStore(redis)
        self.path = self.repositories.path(APP)
        self._work = folder / "work"
        self._folder = folder
        self.repositories.ensure(APP)
        self._work.mkdir()
        self.git("init", "--quiet", "--initial-branch=release")

    def git(self, *arguments: str) -> str:
        command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
        done = subprocess.run(
            command, cwd=self._work, env=git_environment(), capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    def commit(self) -> str:
        """Makes a commit that has no parent, and returns its id."""
        (self._work / "file").write_text(f"{time.monotonic_ns()}\n")
        self.git("checkout", "--quiet", "--orphan", f"at-{time.monotonic_ns()}")
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message=change")
        return self.git("rev-parse", "HEAD")

    def push(self, ref: str = "refs/heads/release") -> str:
        """Forced."""
        commit = self.commit()
        self.git("push", "--quiet", f"--receive-pack={RECEIVE_PACK}", str(self.path), f"+{commit}:{ref}")
        return commit

    async def build_of(self, number: int, commit: str) -> Build:
        made = build(number, commit=commit, state=BuildState.SUCCESS)
        await self.store.add(made, is_head=False)
        return made

    def has(self, commit: str) -> bool:
        """Returns True if the commit can be checked out."""
        if self.repositories.commit(APP, commit) is None:
            return False
        self.repositories.checkout(APP, commit, self._folder / "checkout")
        return (self._folder / "checkout" / "file").exists()

    def packs(self) -> int:
        return len(list(self.path.glob("objects/pack/*.pack")))

    def age(self) -> None:
        """All that is there is a month old, by the dates that git goes by."""
        at = time.time() - A_MONTH_S
        for path in self.path.glob("objects/*/*"):
            os.utime(path, (at, at))

    def gc(self, *, most_packs: int = 3, path: str = os.environ["PATH"], timeout_s: float = 60.0) -> RepositoryGc:
        return RepositoryGc(self.store, self.repositories, path, most_packs=most_packs, timeout_s=timeout_s)

    def kept(self) -> set[str]:
        return set(self.repositories.git(APP, "for-each-ref", "--format=%(objectname)", KEPT).split())


@pytest.fixture
def hosted(tmp_path: Path, redis: Redis) -> Hosted:
    return Hosted(tmp_path, redis)


async def test_what_many_pushes_left_is_packed_and_every_builds_commit_is_there(hosted: Hosted) -> None:
    commits = [hosted.push() for _ in range(8)]
    builds = [await hosted.build_of(number, commit) for number, commit in enumerate(commits[:6], 1)]
    hosted.age()
    assert hosted.packs() == 8
    await hosted.gc().step()
    assert hosted.packs() == 1
    assert [hosted.has(commit) for commit in commits] == [True] * 6 + [False, True], "one had no build and no branch"
    assert hosted.kept() == {build.commit for build in builds} | {commits[-1]}


async def test_what_no_branch_has_goes_once_its_build_is_forgotten_and_it_is_old(hosted: Hosted) -> None:
    forced_away = hosted.push()
    made = await hosted.build_of(1, forced_away)
    for _ in range(4):
        hosted.push()
    await hosted.gc().step()
    hosted.age()
    await hosted.store.drop([made])
    newest = [hosted.push() for _ in range(4)]
    await hosted.gc().step()
    assert not hosted.has(forced_away)
    assert all(hosted.has(commit) for commit in newest), "two weeks have not passed since"
    assert hosted.kept() == {newest[-1]}


async def test_few_packs_are_left_alone_and_a_repository_rests_after_it_was_packed(hosted: Hosted) -> None:
    hosted.push()
    hosted.push()
    gc = hosted.gc(most_packs=1)
    await hosted.gc(most_packs=2).step()
    assert (hosted.packs(), hosted.kept()) == (2, set())
    await gc.step()
    assert hosted.packs() < 3
    for _ in range(3):
        hosted.push()
    before = hosted.packs()
    await gc.step()
    assert hosted.packs() == before


async def test_many_loose_objects_are_a_reason_too(hosted: Hosted, tmp_path: Path) -> None:
    commit = hosted.push()
    files = [tmp_path / f"{number}" for number in range(1500)]
    for path in files:
        path.write_text(f"{path.name}\n")
    asked = "".join(f"{path}\n" for path in files)
    hosted.repositories.git(APP, "hash-object", "-w", "--stdin-paths", stdin=asked)
    await RepositoryGc(hosted.store, hosted.repositories, os.environ["PATH"], most_loose=0).step()
    assert list(hosted.path.glob("objects/??/*")) == []
    assert (hosted.packs(), hosted.has(commit)) == (2, True), "the second has what no ref leads to"


async def test_a_push_that_waits_for_its_hook_meanwhile_loses_nothing(hosted: Hosted, tmp_path: Path) -> None:
    for _ in range(4):
        hosted.push()
    hosted.age()
    hook, told, free = tmp_path / "hooks" / "pre-receive", tmp_path / "told", tmp_path / "free"
    hook.parent.mkdir()
    hook.write_text(f"#!/bin/sh\ntouch {told}\nuntil [ -e {free} ]; do sleep 0.05; done\n")
    hook.chmod(0o755)
    commit = hosted.commit()
    receive = f"git -c core.hooksPath={hook.parent} -c receive.unpackLimit=1 receive-pack"
    pushing = asyncio.create_task(
        asyncio.to_thread(
            hosted.git, "push", f"--receive-pack={receive}", str(hosted.path), f"+{commit}:refs/heads/dev"
        )
    )
    await asyncio.to_thread(eventually, told.exists)
    await hosted.gc().step()
    packed = hosted.packs()
    free.touch()
    await pushing
    assert (packed, hosted.repositories.heads(APP)["dev"]) == (1, commit)
    assert hosted.has(commit)


async def test_what_is_at_the_door_stays_and_nothing_is_packed_there(hosted: Hosted) -> None:
    hosted.repositories.git(APP, "config", "gc.auto", "1")
    hosted.repositories.git(APP, "config", "gc.autoPackLimit", "1")
    hosted.repositories.git(APP, "config", "gc.autoDetach", "false")
    objects, commits = PreReceiveObjects(hosted.repositories), [hosted.push() for _ in range(5)]
    for commit in commits:
        objects.add(APP, commit, "")
    assert hosted.packs() == 5, "git packed while a pusher waited"
    hosted.age()
    await hosted.gc().step()
    assert (hosted.packs(), objects.kept()) == (1, {(APP, commit) for commit in commits})
    assert all(hosted.has(commit) for commit in commits)


async def test_a_repository_that_cannot_be_packed_keeps_no_other_waiting(hosted: Hosted) -> None:
    hosted.repositories.ensure("broken")
    broken = hosted.repositories.path("broken")
    (broken / "objects" / "pack").mkdir(exist_ok=True)
    for number in range(9):
        (broken / "objects" / "pack" / f"pack-{number:040x}.pack").touch()
    (broken / "refs" / "heads" / "release").write_text("0" * 39 + "1\n")
    for _ in range(4):
        hosted.push()
    gc = hosted.gc()
    await gc.step()
    assert hosted.packs() == 4, "the other one has more packs"
    await gc.step()
    assert hosted.packs() < 4


def a_git_that_hangs(folder: Path) -> tuple[Path, Path]:
    """Returns the folder of a git that hangs, and the file in which it writes the process that it started."""
    programs, begun = folder / "bin", folder / "begun"
    programs.mkdir()
    (programs / "git").write_text(f"#!/bin/sh\nsleep 60 &\necho $! > {begun}.new\nmv {begun}.new {begun}\nwait\n")
    (programs / "git").chmod(0o755)
    return programs, begun


def is_gone(begun: Path) -> bool:
    return not Path("/proc", begun.read_text().strip()).exists()


@pytest.mark.slow
async def test_git_is_ended_when_it_takes_too_long(hosted: Hosted, tmp_path: Path) -> None:
    for _ in range(4):
        hosted.push()
    programs, begun = a_git_that_hangs(tmp_path)
    await hosted.gc(path=f"{programs}:{os.environ['PATH']}", timeout_s=1.0).step()
    eventually(lambda: is_gone(begun))
    assert hosted.packs() == 4


async def test_what_a_killed_git_left_half_written_goes_when_nobody_can_write_it_any_more(hosted: Hosted) -> None:
    for _ in range(4):
        hosted.push()
    folder = hosted.path / "objects" / "pack"
    names = ["tmp_pack_a", "tmp_idx_a", ".tmp-7-pack-a.pack"]
    for name in names:
        (folder / name).touch()
        os.utime(folder / name, (0, time.time() - 2 * 24 * 3600))
    (folder / "tmp_pack_fresh").touch()
    await hosted.gc().step()
    assert [path.name for path in folder.iterdir() if "tmp" in path.name] == ["tmp_pack_fresh"]


async def test_an_app_that_is_deleted_meanwhile_can_be_made_again(hosted: Hosted, tmp_path: Path) -> None:
    for _ in range(4):
        hosted.push()
    programs, begun = a_git_that_hangs(tmp_path)
    gc = hosted.gc(path=f"{programs}:{os.environ['PATH']}")
    packing = asyncio.create_task(gc.step())
    await asyncio.to_thread(eventually, begun.exists)
    async with asyncio.timeout(20), gc.undisturbed(APP):
        await asyncio.to_thread(eventually, lambda: is_gone(begun))
        await asyncio.to_thread(hosted.repositories.delete, APP)
    await packing
    assert list(hosted.repositories.folder.iterdir()) == []
    (hosted.path / "objects" / "pack").mkdir(parents=True)  # by one that a killed service had left running
    await asyncio.to_thread(hosted.repositories.ensure, APP)
    assert hosted.has(hosted.push())
