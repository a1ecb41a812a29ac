"""Finds and reads the reports of a step, after checks that the step wrote them in this build."""

import hashlib
import os
import stat
import tempfile
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from services.build.reports.report_text import Unreadable
from services.build.system.path_glob import PathGlob, fixed_folder

LARGEST_BYTES = 20 * 2**20
MOST_MATCHED = 200  # files that one glob may match
MOST_LOOKED = 500_000  # files and folders that are searched
LARGEST_IN_ALL_BYTES = 60 * 2**20  # of all reports of one kind of a step


@dataclass(frozen=True)
class StepStart:
    """Records when a step began, by the clock of the file system, which is some milliseconds behind the system's
    clock.
    """

    at_ns: int
    """Nanoseconds since 1970."""

    @property
    def at(self) -> datetime:
        return datetime.fromtimestamp(self.at_ns / 1e9, UTC)


def begin(scratch: Path) -> StepStart:
    """Returns the current time by the clock of the file system that holds `scratch`. The caller takes it before a
    step's first command.
    """
    with tempfile.TemporaryFile(dir=scratch) as stamp:  # its own file: other steps may begin at once
        return StepStart(os.fstat(stamp.fileno()).st_mtime_ns)


def clear(folder: Path, report: str) -> None:
    """Removes the file at the report's path before its step runs, because a file of the commit must not count as a
    report. It follows no links; `read_fresh` refuses reports behind links.
    """
    path = folder / report
    if _link_on_the_way(folder, report) is None and path.is_file():
        path.unlink()
    if path.is_symlink():
        path.unlink()


def find(folder: Path, pattern: str, start: StepStart) -> list[str]:
    """Returns the files that the glob matches and that were not modified before `start`: sorted paths relative to
    `folder`. It follows no links. Raises Unreadable if there is no such file, or too many.
    """
    top = fixed_folder(pattern)
    if link := _link_on_the_way(folder, top):
        raise Unreadable(f"is reached through the link {link}; a report is a file that the step writes")
    glob, looked, found = PathGlob(pattern), 0, list[str]()
    for at, folders, files in os.walk(folder / top):
        looked += len(folders) + len(files)
        if looked > MOST_LOOKED:
            raise Unreadable(f"would look through more than {MOST_LOOKED} files; name a folder before the first `*`")
        for path in (os.path.relpath(os.path.join(at, name), folder) for name in files):
            if glob.matches(path.split("/")) and os.lstat(folder / path).st_mtime_ns >= start.at_ns:
                found.append(path)
    if not found:
        raise Unreadable("matches no file that the step wrote")
    if len(found) > MOST_MATCHED:
        raise Unreadable(f"matches more than {MOST_MATCHED} files; let the tool write fewer, or write a narrower one")
    return sorted(found)


def read_fresh(folder: Path, report: str, start: StepStart, committed: Collection[str]) -> bytes:
    """Returns the report's content. Raises Unreadable if it is missing, older than `start`, too large, not a plain
    file, or a copy of a file of the commit. `committed` holds the blob ids of the commit's files.
    """
    if link := _link_on_the_way(folder, report):
        raise Unreadable(f"is reached through the link {link}; a report is a file that the step writes")
    try:
        with open(os.open(folder / report, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
                raise Unreadable("is not a plain file of its own")
            if status.st_mtime_ns < start.at_ns:
                raise Unreadable("is older than its step: it comes from elsewhere")
            if status.st_size > LARGEST_BYTES:
                raise Unreadable(f"is larger than {LARGEST_BYTES // 2**20} MiB")
            data = file.read(LARGEST_BYTES + 1)
    except FileNotFoundError as error:
        raise Unreadable("was not written by the step") from error
    except OSError as error:
        raise Unreadable(f"cannot be read: {error.strerror}") from error
    if blob_id(data) in committed:
        raise Unreadable("is a copy of a file of the commit, not the result of this build")
    return data


def blob_id(data: bytes) -> str:
    """Returns git's object id for a file with this content."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def _link_on_the_way(folder: Path, report: str) -> str | None:
    path = folder
    for part in Path(report).parts:
        path = path / part
        if path.is_symlink():
            return str(path.relative_to(folder))
    return None
