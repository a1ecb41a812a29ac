"""A report that cannot be read takes the figure of its gates away."""

from datetime import UTC, datetime

from services.build.gates.flaky import Suite, weigh
from services.build.gates.report_collection import Collected, Reported
from services.build.reports.path_resolver import PathResolver

NOW = datetime(2026, 1, 1, tzinfo=UTC)
JUNIT = b'<testsuite tests="2"><testcase name="a"/><testcase name="b"><failure/></testcase></testsuite>'
LCOV = b"SF:a.py\nDA:1,1\nDA:2,0\nend_of_record\n"
SARIF = b'{"version": "2.1.0", "runs": [{"tool": {"driver": {"name": "t"}}, "results": [{"message": {"text": "x"}}]}]}'


def figures(collected: Collected) -> dict[str, float | None]:
    return {name: measure.figure for name, measure in collected.measures().items()}


def reported(**reports: bytes) -> Reported:
    found = Reported()
    for kind, data in reports.items():
        found.read(kind, data, NOW)
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
