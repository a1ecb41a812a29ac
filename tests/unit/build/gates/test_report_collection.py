"""A report that cannot be read takes the figure of its gates away."""

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest

from services.build.gates.flaky import Suite, weigh
from services.build.gates.report_collection import Collected, Reported, collect
from services.build.reports.path_resolver import PathResolver
from services.build.reports.report_file import LARGEST_BYTES, StepStart, blob_id
from shared.manifest import Reports

NOW = datetime(2026, 1, 1, tzinfo=UTC)
JUNIT = b'<testsuite tests="2"><testcase name="a"/><testcase name="b"><failure/></testcase></testsuite>'
LCOV = b"SF:a.py\nDA:1,1\nDA:2,0\nend_of_record\n"
SARIF = b'{"version": "2.1.0", "runs": [{"tool": {"driver": {"name": "t"}}, "results": [{"message": {"text": "x"}}]}]}'


def figures(collected: Collected) -> dict[str, float | None]:
    return {name: measure.figure for name, measure in collected.measures().items()}


def reported(**reports: bytes) -> Reported:
    found = Reported()
    for kind, data in reports.items():
        found.read(kind, [("it", data)], NOW)
    return found


def suite_of(found: Reported) -> Suite | None:
    return weigh([found.cases], [], "test", {}, 5, NOW) if found.cases else None


def test_reports_of_several_steps_add_up() -> None:
    collected = Collected()
    for _ in range(2):
        found = reported(junit=JUNIT, coverage=LCOV, sarif=SARIF)
        collected.add(found, suite_of(found))
    assert collected.tests == 4
    assert figures(collected) == {"test_failures": 2, "coverage": 50, "findings": 2}


def test_what_no_step_reported_has_no_measure_and_one_bad_report_takes_the_figure_of_all() -> None:
    collected = Collected()
    assert figures(collected) == {}
    collected.add(reported(coverage=LCOV))
    refused = Reported()
    refused.refuse("coverage", "reports/coverage.xml was not written by its step")
    collected.add(refused)
    assert collected.measures()["coverage"].figure is None
    assert "not written" in collected.measures()["coverage"].reason


def test_a_file_that_ends_like_one_of_the_commit_covers_none_of_its_lines() -> None:
    lcov = b"SF:calc.py\nDA:1,0\nend_of_record\nSF:build/gen/calc.py\nDA:1,9\nend_of_record\n"
    collected = Collected(PathResolver(["calc.py"]))
    collected.add(reported(coverage=lcov))
    assert (collected.hits, collected.other_hits) == ({"calc.py": {1: 0}}, {"build/gen/calc.py": {1: 9}})


def test_what_several_reports_say_of_a_line_is_counted_once() -> None:
    collected = Collected(PathResolver(["a.py"], ["/w"]))
    collected.add(reported(coverage=b"SF:a.py\nDA:1,1\nDA:2,0\nend_of_record\n"))
    collected.add(reported(coverage=b"SF:/w/a.py\nDA:2,3\nDA:3,0\nDA:4,0\nend_of_record\n"))
    assert figures(collected) == {"coverage": 50}


def test_the_files_with_most_lines_uncovered_come_first() -> None:
    lcov = b"SF:/w/a.py\nDA:1,1\nDA:2,0\nend_of_record\nSF:/w/b.py\nDA:7,0\nDA:8,0\nend_of_record\n"
    collected = Collected(PathResolver(["a.py", "b.py"], ["/w"]))
    collected.add(reported(coverage=lcov))
    assert [str(each) for each in collected.measures()["coverage"].offenders] == [
        "b.py:7 2 of 2 lines not covered",
        "a.py:2 1 of 2 lines not covered",
    ]
    assert collected.hits == {"a.py": {1: 1, 2: 0}, "b.py": {7: 0, 8: 0}}


START = StepStart(int(NOW.timestamp() * 1e9))


def collected_from(folder: Path, files: Mapping[str, bytes], **reports: list[str] | str) -> Reported:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return collect(Reports.model_validate(reports), folder, START, {blob_id(b"copied")})


def test_lists_and_globs_are_read_and_added_up_each_file_once(tmp_path: Path) -> None:
    files = {"out/a.xml": JUNIT, "out/b.xml": JUNIT, "b.xml": JUNIT, "out/deep/c.xml": JUNIT, "lcov.info": LCOV}
    found = collected_from(tmp_path, files, junit=["out/*.xml", "b.xml", "out/b.xml"], coverage="*.info")
    assert found.unreadable == {}
    assert found.cases is not None
    assert (found.cases.ran, found.cases.failures) == (6, 3)
    assert [path for path, _ in found.lines] == ["lcov.info"]
    everywhere = collected_from(tmp_path, {}, junit="**/*.xml")
    assert everywhere.cases is not None
    assert everywhere.cases.ran == 8


@pytest.mark.parametrize(
    ("reports", "files", "reason"),
    [
        (["out/*.xml"], {"a.xml": JUNIT}, "out/*.xml matches no file that the step wrote"),
        (["*.xml", "b.xml"], {"a.xml": JUNIT}, "b.xml was not written by the step"),
        (["*.xml"], {"a.xml": JUNIT, "b.xml": b"<testsuite>"}, "b.xml is not whole XML"),
        (["*.xml"], {"a.xml": JUNIT, "b.xml": b"copied"}, "b.xml is a copy of a file of the commit"),
        (["*.xml"], {"a.xml": b"<testsuite/>", "b.xml": b"<testsuite/>"}, "each of 2 files, a.xml to b.xml, holds no"),
        (["*.xml"], {f"{n}.xml": JUNIT for n in range(201)}, "*.xml matches more than 200 files"),
    ],
)
def test_one_bad_report_of_several_takes_the_figure_away(
    tmp_path: Path, reports: list[str], files: dict[str, bytes], reason: str
) -> None:
    assert collected_from(tmp_path, files, junit=reports).unreadable["test_failures"].startswith(reason)


def test_what_is_older_than_the_step_is_none_of_its_reports(tmp_path: Path) -> None:
    collected_from(tmp_path, {"pom.xml": b"<project/>", "out/a.xml": JUNIT}, junit="out/*.xml")
    os.utime(tmp_path / "pom.xml", (1, 1))
    found = collected_from(tmp_path, {}, junit="**/*.xml")
    assert found.cases is not None
    assert found.cases.ran == 2
    os.utime(tmp_path / "out/a.xml", (1, 1))
    assert "matches no file" in collected_from(tmp_path, {}, junit="**/*.xml").unreadable["test_failures"]


def test_globs_follow_no_links(tmp_path: Path) -> None:
    (tmp_path / "w" / "out").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/a.xml").write_bytes(JUNIT)
    (tmp_path / "w/link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "w/out/b.xml").symlink_to(tmp_path / "elsewhere/a.xml")
    refused = [collected_from(tmp_path / "w", {}, junit=glob).unreadable for glob in ("link/*.xml", "out/*.xml")]
    assert [each["test_failures"].split(";")[0] for each in refused] == [
        "link/*.xml is reached through the link link",
        "out/b.xml is reached through the link out/b.xml",
    ]
    assert "matches no file" in collected_from(tmp_path / "w", {}, junit="*/a.xml").unreadable["test_failures"]


def test_the_size_of_all_reports_is_bounded(tmp_path: Path) -> None:
    padded = JUNIT + b" " * (LARGEST_BYTES - len(JUNIT))
    files = {f"{number}.xml": padded for number in range(4)}
    assert (
        "3.xml and the reports before it are larger than 60 MiB"
        in (collected_from(tmp_path, files, junit="*.xml").unreadable["test_failures"])
    )
