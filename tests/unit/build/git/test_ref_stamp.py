"""Whatever git does to branches shows in the stamp of the repository."""

import os
import subprocess
import time
from pathlib import Path

import pytest

from services.build.git.ref_stamp import TICK_NS, RefStamp, ref_stamp

NOBODY = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b"}
SECOND = 10**9


class Repository:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.git("init", "--quiet", "--bare", str(path))

    def git(self, *arguments: str) -> str:
        command = ["git", "--git-dir", str(self.path), *arguments]
        return subprocess.run(
            command, env={**os.environ, **NOBODY}, input="\n", capture_output=True, text=True, check=True
        ).stdout.strip()

    def commit(self, message: str) -> str:
        return self.git("commit-tree", "-m", message, self.git("mktree", "--batch"))

    def age(self) -> None:
        """Makes all files old, so that a change after this has another time."""
        for path in (self.path, *self.path.rglob("*")):
            os.utime(path, ns=(SECOND, SECOND), follow_symlinks=False)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    made = Repository(tmp_path / "notes.git")
    for branch in ("release", "feature/one"):
        made.git("update-ref", f"refs/heads/{branch}", made.commit("the first"))
    return made


@pytest.mark.parametrize("packed", [False, True], ids=["loose", "packed"])
@pytest.mark.parametrize(
    "change",
    [
        ["update-ref", "refs/heads/release", "{new}"],
        ["update-ref", "refs/heads/feature/one", "{new}"],
        ["update-ref", "refs/heads/feature/two/deep", "{new}"],
        ["update-ref", "-d", "refs/heads/release"],
        ["update-ref", "-d", "refs/heads/feature/one"],
        ["branch", "-m", "release", "main"],
        ["pack-refs", "--all"],
    ],
    ids=" ".join,
)
def test_a_change_of_the_branches_is_another_stamp(repository: Repository, packed: bool, change: list[str]) -> None:
    if packed:
        repository.git("pack-refs", "--all", "--prune")
    new = repository.commit("the second")
    repository.git("update-ref", "refs/heads/other", new)
    repository.age()
    before = ref_stamp(repository.path)
    assert ref_stamp(repository.path) == before

    repository.git(*(part.format(new=new) for part in change))

    assert ref_stamp(repository.path) != before


def test_what_is_no_branch_is_the_same_stamp(repository: Repository) -> None:
    before = ref_stamp(repository.path)
    repository.git("update-ref", "refs/slipway/kept/x", repository.commit("the second"))
    repository.git("gc", "--quiet", "--no-prune")  # which packs the branches
    packed = ref_stamp(repository.path)
    repository.commit("the third")
    assert ref_stamp(repository.path) == packed != before


def test_a_younger_stamp_than_a_tick_may_hide_a_change(repository: Repository) -> None:
    now_ns = time.time_ns()
    assert ref_stamp(repository.path).may_hide_a_change(now_ns)
    assert not ref_stamp(repository.path).may_hide_a_change(now_ns + 10 * SECOND)
    repository.age()
    assert not ref_stamp(repository.path).may_hide_a_change(now_ns)


@pytest.mark.parametrize(
    ("age_ns", "hides"), [(0, True), (TICK_NS - 1, True), (TICK_NS, False), (1 - TICK_NS, True), (-TICK_NS, False)]
)
def test_a_clock_that_was_set_back_is_waited_for_no_longer_than_a_tick(age_ns: int, hides: bool) -> None:
    stamp = RefStamp((("packed-refs", 1, 1, 1), ("refs/heads", 1, 1, 100 * SECOND)))
    assert stamp.may_hide_a_change(100 * SECOND + age_ns) is hides


def test_a_repository_that_is_gone_has_an_empty_stamp(tmp_path: Path) -> None:
    assert ref_stamp(tmp_path / "gone.git") == RefStamp(())


def test_refs_in_tables_are_stamped(tmp_path: Path) -> None:
    (tmp_path / "reftable").mkdir()
    (tmp_path / "refs").mkdir()
    (tmp_path / "refs" / "heads").write_text("this repository uses the reftable format\n")
    tables = tmp_path / "reftable" / "tables.list"
    tables.write_text("0x01-0x01-aa.ref\n")
    before = ref_stamp(tmp_path)
    fresh = tmp_path / "reftable" / "tables.list.lock"
    fresh.write_text("0x01-0x02-bb.ref\n")
    fresh.replace(tables)
    assert ref_stamp(tmp_path) != before


def test_a_name_of_a_thousand_parts_is_read(repository: Repository) -> None:
    branch = f"refs/heads/{'a/' * 1000}a"
    repository.git("update-ref", branch, repository.commit("deep"))
    assert branch in [name for name, *_ in ref_stamp(repository.path).files]
    repository.git("update-ref", "-d", branch)  # or pytest could not remove it
    assert branch not in [name for name, *_ in ref_stamp(repository.path).files]
