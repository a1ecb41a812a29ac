import io
import tarfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from services.build.executors.docker.container_files import only_file, place
from services.build.reports.report_file import LARGEST_BYTES, StepStart

BORN = datetime(2026, 1, 1, tzinfo=UTC)
STATUS = {"mode": 0o644, "size": 2, "mtime": "2026-01-01T00:00:01Z"}


def archive(data: bytes) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        member = tarfile.TarInfo("report")
        member.size = len(data)
        tar.addfile(member, io.BytesIO(data))
    return packed.getvalue()


def test_a_report_is_put_where_its_step_wrote_it(tmp_path: Path) -> None:
    place(tmp_path, "out/report", STATUS, iter([archive(b"ok")]), BORN, StepStart(5 * 10**9))
    assert (tmp_path / "out" / "report").read_bytes() == b"ok"
    assert (tmp_path / "out" / "report").stat().st_mtime_ns == 6 * 10**9


def test_a_link_of_the_commit_leads_no_report_out(tmp_path: Path) -> None:
    folder, outside = tmp_path / "checkout", tmp_path / "outside"
    folder.mkdir()
    outside.mkdir()
    (outside / "report").write_text("kept")
    (folder / "out").symlink_to(outside)
    for name in ("out/report", "out/new/report"):
        place(folder, name, STATUS, iter([archive(b"ok")]), BORN, StepStart(0))
    assert [path.name for path in outside.iterdir()] == ["report"]
    assert (outside / "report").read_text() == "kept"


def test_a_giant_is_not_read_into_memory() -> None:
    given = 0

    def endless() -> Iterator[bytes]:
        nonlocal given
        while True:
            given += 2**20
            yield bytes(2**20)

    with pytest.raises(ValueError, match="larger than a report may be"):
        only_file(endless())
    assert given <= LARGEST_BYTES + 2 * 2**20
