"""From reports and tools' output to figures; what could not be read takes the figure away."""

from datetime import UTC, datetime

import pytest

from services.build.gates.code_metrics import Collected, Reported, lizard_measures, secrets_measure
from services.build.gates.flaky import Suite, weigh
from services.build.reports.metric import Offender
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


def test_the_worst_function_counts_and_is_named() -> None:
    rows = [
        f'5,{complexity},9,1,{length},"f@1-9@src/a.py","src/a.py","{name}","{name}( x )",{line},9'
        for name, complexity, length, line in (("f", 3, 40, 1), ("g", 9, 7, 50))
    ]
    measures = lizard_measures("\n".join(rows), "src/")
    assert (measures["complexity"].figure, measures["function_length"].figure) == (9, 40)
    assert measures["complexity"].offenders[0] == Offender(file="a.py", line=50, message="g (9)")
    assert measures["complexity"].findings == ()


def test_a_function_above_the_platforms_default_is_a_finding_whatever_the_app_allows() -> None:
    row = '5,16,9,1,80,"f@1-9@src/a.py","src/a.py","f","f( x )",1,9'
    measures = lizard_measures(row, "src/")
    assert [finding.rule for finding in measures["complexity"].findings] == ["lizard complexity"]
    assert measures["function_length"].findings == ()


def test_the_files_with_most_lines_uncovered_come_first() -> None:
    lcov = b"SF:/w/a.py\nDA:1,1\nDA:2,0\nend_of_record\nSF:/w/b.py\nDA:7,0\nDA:8,0\nend_of_record\n"
    collected = Collected(PathResolver(["a.py", "b.py"]))
    collected.add(reported(coverage=lcov))
    assert [str(place) for place in collected.measures()["coverage"].offenders] == [
        "b.py:7 2 of 2 lines not covered",
        "a.py:2 1 of 2 lines not covered",
    ]
    assert collected.hits == {"a.py": {1: 1, 2: 0}, "b.py": {7: 0, 8: 0}}


@pytest.mark.parametrize(
    ("path", "roots", "found"),
    [
        ("/build/notes-3/src/a.py", [], "src/a.py"),
        ("file:///build/notes-3/src/a%20b.py", [], "src/a b.py"),
        ("src/a.py", [], "src/a.py"),
        ("./src/a.py", [], "src/a.py"),
        ("a.py", ["/build/notes-3/src"], "src/a.py"),
        ("a.py", ["/build/notes-3"], "a.py"),
        ("github.com/me/notes/src/a.py", [], "src/a.py"),
        ("other.py", ["/build/notes-3"], None),
        ("", [], None),
    ],
)
def test_a_file_is_found_as_the_commit_names_it(path: str, roots: list[str], found: str | None) -> None:
    assert PathResolver(["a.py", "src/a.py", "src/a b.py"]).find(path, roots) == found


def test_secrets_are_counted_and_only_their_places_named() -> None:
    output = '{"results": {"src/a.py": [{"type": "AWS Access Key", "line_number": 3, "hashed_secret": "abc"}]}}'
    measure = secrets_measure(output, "src/")
    key = Offender(file="a.py", line=3, message="AWS Access Key")
    assert (measure.figure, measure.offenders) == (1, (key,))
