"""The record of reports is complete within its bounds, says what was cut, and masks secrets."""

from datetime import UTC, datetime
from pathlib import Path

from services.build.api.source_view import source_view
from services.build.gates.report_archive import ReportFiles
from services.build.gates.report_collection import Collected, Reported
from services.build.gates.report_record import Bounds, BuildReport, ReportRecorder
from services.build.reports.metric import Finding, Measure, Offender
from services.build.reports.path_resolver import PathResolver
from shared.security.mask import Mask

LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
SECRET = "hunter2hunter2"
JUNIT = f"""<testsuite>
<testcase classname="a" name="passes" time="0.25"/>
<testcase classname="a" name="skips"><skipped message="not here"/></testcase>
<testcase classname="a" name="fails" time="1,001.5"><failure message="said {SECRET}">assert 1 == 2</failure>
<system-out>printed {SECRET}</system-out></testcase>
</testsuite>""".encode()
LCOV = b"SF:src/a.py\nDA:1,1\nDA:2,0\nDA:3,4\nend_of_record\n"


def report_of(
    *kinds: tuple[str, bytes], measures: dict[str, Measure] | None = None, bounds: Bounds | None = None
) -> BuildReport:
    mask = Mask([SECRET])
    report_recorder, collected = ReportRecorder(mask, bounds), Collected(PathResolver(["src/a.py"]))
    report_recorder.begin(collected, measures or {})
    for kind, data in kinds:
        reported = Reported()
        reported.read(kind, [("it", data)], LONG_AGO, mask)
        collected.add(reported)
        report_recorder.ran("unit", reported)
    return report_recorder.report()


def test_failed_tests_come_first_with_what_they_printed_and_no_secret() -> None:
    tests = report_of(("junit", JUNIT)).tests
    assert [(each.id, each.outcome, each.seconds) for each in tests] == [
        ("a::fails", "failed", 1001.5),
        ("a::passes", "passed", 0.25),
        ("a::skips", "skipped", None),
    ]
    assert tests[0].message == "said ***"
    assert tests[0].output == "assert 1 == 2\n\n--- out\nprinted ***"
    assert tests[2].message == "not here"


def test_coverage_is_kept_by_line() -> None:
    (file,) = report_of(("coverage", LCOV)).coverage
    assert (file.file, file.covered, file.missed) == ("src/a.py", [1, 3], [2])


def test_findings_of_the_platform_are_kept_too() -> None:
    finding = Finding("lizard complexity", Offender(file="src/a.py", line=2, message=f"{SECRET} (20)"))
    (found,) = report_of(measures={"complexity": Measure(20, findings=(finding,))}).findings
    assert (found.rule, found.file, found.line, found.message) == ("lizard complexity", "src/a.py", 2, "*** (20)")


def test_what_is_too_much_is_cut_and_said() -> None:
    report = report_of(("junit", JUNIT), ("coverage", LCOV), bounds=Bounds(tests=2, output_bytes=10, lines=2))
    assert [each.outcome for each in report.tests] == ["failed", "passed"]
    assert (report.tests[0].output, report.coverage) == ("", [])
    assert [part.split(":")[0] for part in report.cut] == [
        "1 of 3 tests",
        "the output of 1 tests",
        "1 files of coverage",
    ]


def test_a_report_is_written_whole_and_a_broken_one_is_none(tmp_path: Path) -> None:
    files = ReportFiles(tmp_path / "reports")
    assert files.read("notes-1") is None
    report = report_of(("junit", JUNIT), ("coverage", LCOV))
    files.write("notes-1", report)
    assert files.read("notes-1") == report
    assert [path.name for path in files.folder.iterdir()] == ["notes-1.json.gz"]
    files.path("notes-1").write_bytes(files.path("notes-1").read_bytes()[:40])
    assert files.read("notes-1") is None


def test_source_is_marked_line_by_line() -> None:
    finding = Finding("ruff E1", Offender(file="src/a.py", line=2, message="bad"))
    report = report_of(("coverage", LCOV), measures={"x": Measure(1, findings=(finding,))})
    view = source_view("src/a.py", b"one\r\ntwo\n<three>\n\nfive", report)
    assert [(line.text, line.mark) for line in view.lines] == [
        ("one", "covered"),
        ("two", "missed"),
        ("<three>", "covered"),
        ("", ""),
        ("five", ""),
    ]
    assert [found.rule for found in view.lines[1].findings] == ["ruff E1"]
    assert source_view("src/a.py", b"a\0b", report).lines == []
    assert "larger" in source_view("src/a.py", None, report).why_not
