import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path

from services.build.executors.docker import container_reports
from services.build.executors.docker.container_reports import MOST_FOUND, list_command, matched, step_arguments

AT = datetime(2026, 1, 1, tzinfo=UTC)
SECONDS = int(AT.timestamp())


def test_the_command_lists_what_globs_match_and_no_path(tmp_path: Path) -> None:
    for name in ("out/a b.xml", "out/x/c.xml", "out/x/d.txt", "e.xml", "it's/f.xml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (SECONDS, SECONDS))
    os.utime(tmp_path / "out/x/c.xml", (SECONDS - 9, SECONDS - 9))
    (tmp_path / "out/l.xml").symlink_to("x")
    found = tmp_path / "found"
    reports = ["e.xml", "out/**/*.xml", "it's/*.xml", "none/*.xml"]
    command = list_command(reports).replace(container_reports.FOUND, str(found))
    subprocess.run(["sh", "-c", command], cwd=tmp_path, check=True)
    assert matched(found.read_text(), reports, AT) == ["it's/f.xml", "out/a b.xml", "out/l.xml"]


def test_without_globs_nothing_is_listed() -> None:
    assert step_arguments("sha256:1", ["a.xml"], ["true"])[-4:] == [":", "a.xml", "--", "true"]
    assert matched("", ["a.xml"], AT) == []


def test_of_very_many_files_no_list_is_whole() -> None:
    line = f"{SECONDS} ./a.xml\n"
    assert matched(line * (MOST_FOUND - 1), ["*.xml"], AT) == ["a.xml"]
    assert matched(line * MOST_FOUND, ["*.xml"], AT) is None
