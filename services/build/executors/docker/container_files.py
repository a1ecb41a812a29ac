"""Copies files into and out of containers as tar archives, the form that the engine's API uses."""

import io
import os
import shutil
import tarfile
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from services.build.reports.report_file import LARGEST_BYTES, StepStart

_TAR_ROOM = 64 * 1024
# Bits of a file's mode as the engine reports it, which is Go's `FileMode` and not the mode of POSIX.
_GO_SYMLINK, _GO_TYPE = 1 << 27, 0x8F280000


def pack(folder: Path, archive: IO[bytes]) -> None:
    """Writes the folder's content, owned by root, to `archive` as a tar file, and rewinds `archive`. Raises OSError if
    a file cannot be read or written.
    """
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.add(folder, arcname=".", filter=_as_root)
    archive.seek(0)


def moment(text: str) -> datetime:
    """Returns the time that a timestamp of the engine's API gives; its nanoseconds are cut to microseconds."""
    return datetime.fromisoformat(text)


def place(
    folder: Path, name: str, status: Mapping[str, Any], chunks: Iterator[bytes], created_at: datetime, start: StepStart
) -> None:
    """Copies a report from a container to the file `name` in `folder`. `status` and `chunks` are the engine's answer to
    `get_archive`. `created_at` is when the container was made, by the engine's clock; `start` is the same moment by the
    clock of this machine's files. The copy's modification time is as long after `start` as the original's was after
    `created_at`. A report that is too large becomes a sparse file of its size; one that is not a plain file becomes a
    link or a folder; the reader of reports refuses both later. If a link in the checkout leads the path `name`
    elsewhere, nothing is written.
    """
    report = folder / name
    if report.parent.resolve() != folder.resolve() / Path(name).parent:
        return
    _clear(report)
    if status["mode"] & _GO_SYMLINK:
        report.symlink_to("elsewhere")
    elif status["mode"] & _GO_TYPE:
        report.mkdir()
    else:
        with report.open("wb") as file:
            if status["size"] > LARGEST_BYTES:
                file.truncate(status["size"])
            else:
                file.write(only_file(chunks))
        age = moment(status["mtime"]) - created_at
        at_ns = start.at_ns + (age.days * 86400 + age.seconds) * 10**9 + age.microseconds * 1000
        os.utime(report, ns=(at_ns, at_ns))


def only_file(chunks: Iterator[bytes]) -> bytes:
    """Returns the content of the only file in a tar archive, which `chunks` yields; empty if it is not a plain file.
    Raises ValueError if the archive is larger than a report may be.
    """
    data = bytearray()
    for chunk in chunks:
        data += chunk
        if len(data) > LARGEST_BYTES + _TAR_ROOM:
            raise ValueError("larger than a report may be")
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        member = tar.next()
        file = member and tar.extractfile(member)
        return file.read() if file else b""


def _clear(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)


def _as_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member
