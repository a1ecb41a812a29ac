import os
from pathlib import Path

import pytest

from services.build.reports.report_file import LARGEST_BYTES, begin, blob_id, clear, read_fresh
from services.build.reports.report_text import Unreadable

REPORT = "out/junit.xml"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "checkout" / "out").mkdir(parents=True)
    return tmp_path / "checkout"


def refused(folder: Path, scratch: Path, committed: set[str] | None = None) -> str:
    start = begin(scratch)
    with pytest.raises(Unreadable) as caught:
        read_fresh(folder, REPORT, start, committed or set())
    return str(caught.value)


def test_what_the_step_wrote_counts(folder: Path, tmp_path: Path) -> None:
    start = begin(tmp_path)
    (folder / REPORT).write_bytes(b"fresh")
    assert read_fresh(folder, REPORT, start, {blob_id(b"other")}) == b"fresh"


def test_the_blob_id_is_gits() -> None:
    assert blob_id(b"hello\n") == "ce013625030ba8dba906f756967f9e9ca394464a"


def test_a_report_in_the_commit_is_cleared_and_then_missing(folder: Path, tmp_path: Path) -> None:
    (folder / REPORT).write_bytes(b"committed")
    clear(folder, REPORT)
    assert refused(folder, tmp_path) == "was not written by the step"


def test_clearing_does_not_reach_through_a_link(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "junit.xml").write_bytes(b"precious")
    (folder / "out").rmdir()
    (folder / "out").symlink_to(tmp_path / "elsewhere")
    clear(folder, REPORT)
    assert (tmp_path / "elsewhere" / "junit.xml").read_bytes() == b"precious"
    assert refused(folder, tmp_path).startswith("is reached through the link out;")


def test_a_copy_of_a_committed_file_is_refused(folder: Path, tmp_path: Path) -> None:
    start = begin(tmp_path)
    (folder / REPORT).write_bytes(b"copied")
    with pytest.raises(Unreadable, match="is a copy of a file of the commit"):
        read_fresh(folder, REPORT, start, {blob_id(b"copied")})


def test_an_older_file_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / REPORT).write_bytes(b"old")
    os.utime(folder / REPORT, (1, 1))
    assert refused(folder, tmp_path) == "is older than its step: it comes from elsewhere"


def test_links_pipes_and_folders_are_refused(folder: Path, tmp_path: Path) -> None:
    (folder / REPORT).symlink_to("/etc/hostname")
    assert "reached through the link" in refused(folder, tmp_path)
    (folder / REPORT).unlink()
    os.mkfifo(folder / REPORT)
    assert refused(folder, tmp_path) == "is not a plain file of its own"
    (folder / REPORT).unlink()
    (folder / REPORT).mkdir()
    assert "is not" in refused(folder, tmp_path) or "cannot be read" in refused(folder, tmp_path)
    (folder / REPORT).rmdir()
    (tmp_path / "other").write_bytes(b"x")
    (folder / REPORT).hardlink_to(tmp_path / "other")
    assert refused(folder, tmp_path) == "is not a plain file of its own"


def test_a_giant_is_refused_unread(folder: Path, tmp_path: Path) -> None:
    start = begin(tmp_path)
    with (folder / REPORT).open("wb") as file:
        file.truncate(LARGEST_BYTES + 1)
    with pytest.raises(Unreadable, match="is larger than 20 MiB"):
        read_fresh(folder, REPORT, start, set())
