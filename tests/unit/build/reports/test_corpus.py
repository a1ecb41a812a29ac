"""Reports of many tools are read as the tools themselves say. `corpus/README.md` tells where the files come from."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from services.build.gates.report_collection import Collected, Reported
from services.build.reports.junit import merged_cases, read_junit
from services.build.reports.path_resolver import PathResolver
from services.build.reports.sarif import read_sarif

CORPUS = Path(__file__).parent / "corpus"
START = datetime(2026, 1, 1, tzinfo=UTC)
CHECKOUTS = ("/workspace/py", "/workspace/js", "/workspace/cc", "/workspace")

# File, tests that ran, failures, skipped ones, ids of the tests that failed.
TESTS = [
    # "2 failed, 4 passed, 1 skipped, 1 xfailed, 2 errors"; the test whose teardown broke has passed and is an error
    ("pytest.xml", 7, 4, 2, {"TestSign::test_zero", "::test_setup", "::test_teardown", "::test_passes_unexpectedly"}),
    (
        "pytest-xunit1.xml",
        7,
        4,
        2,
        {"TestSign::test_zero", "::test_setup", "::test_teardown", "::test_passes_unexpectedly"},
    ),
    # "1 failed, 1 skipped, 1 todo, 1 passed": the todo is a test without a word, and a suite that broke is not there
    ("jest-junit.xml", 3, 1, 1, {"calc knows the sign::calc knows the sign"}),
    # The same with reportTestSuiteErrors, which writes two cases of the suite that broke.
    ("jest-junit-errors.xml", 5, 3, 1, {"calc knows the sign::calc knows the sign", "::jest/broken.test.js"}),
    # "1 failed, 1 passed, 1 skipped, 1 todo", "2 test files failed", one of them because it broke
    ("vitest.xml", 3, 2, 2, {"::vitest/broken.test.mjs", "::calc > knows the sign"}),
    # "1 passing, 1 pending, 2 failing"
    ("mocha-xunit.xml", 3, 2, 1, {"calc::knows the sign", '"before all" hook for "never runs"'}),
    # "pass 1, fail 2, skipped 1, todo 1"
    ("node-test.xml", 3, 2, 2, {"test::knows the sign", "test::throws"}),
    # "Found 6 errors", four of them in one file by one rule
    ("ruff-junit.xml", 6, 6, 0, {"::org.ruff.F841", "::org.ruff.S602", "::org.ruff.S101"}),
    # "PASSED 3, SKIPPED 2, FAILED 1, 1 DISABLED"; it skips a test whose suite broke, and only its exit code says so
    ("googletest.xml", 4, 1, 3, {"Calc::KnowsTheSign"}),
    ("go-junit-report.xml", 3, 2, 1, {"example.com/calc::TestSign", "::[build failed]"}),
    # "Tests run: 4, Failures: 1, Errors: 1, Skipped: 1"
    ("junit5-surefire.xml", 3, 2, 1, {"::knowsTheSign{int}[1]", "::opensTheDatabase"}),
    # "Tests run: 2, Failures: 1, Flakes: 1": surefire has run it again, and its word counts
    ("surefire-flaky.xml", 2, 1, 0, {"::neverAnswers"}),
    # "Tests: 5, Assertions: 3, Errors: 1, Failures: 1, Skipped: 1"
    ("phpunit.xml", 4, 2, 1, {"CalcTest::testSign", "CalcTest::testDatabase"}),
]
# File, lines covered, lines coverable, files of the commit.
COVERAGE = [
    ("coverage-py.xml", 9, 12, {"src/calc.py"}),  # "TOTAL 12 3 75%"
    ("coverage-py.lcov", 9, 12, {"src/calc.py"}),
    ("jest-cobertura.xml", 5, 7, {"src/calc.js"}),  # "Lines: 71.42% ( 5/7 )"
    ("jest.lcov", 5, 7, {"src/calc.js"}),
    ("vitest-cobertura.xml", 5, 7, {"src/calc.js"}),
    ("vitest.lcov", 5, 7, {"src/calc.js"}),
    ("nyc-cobertura.xml", 14, 16, {"src/calc.js", "mocha/calc.spec.js"}),  # "Lines: 87.5% ( 14/16 )"
    ("nyc.lcov", 14, 16, {"src/calc.js", "mocha/calc.spec.js"}),
    ("gcovr-cobertura.xml", 4, 5, {"src/calc.cc"}),  # "Lines 5, Exec 4, Cover 80%"
    ("gcovr.lcov", 4, 5, {"src/calc.cc"}),
    ("coverlet-cobertura.xml", 2, 4, {"Calc/Signs.cs"}),
]
# File, places of the findings.
FINDINGS = [
    # "Found 6 errors": 4 S101, 1 S602, 1 F841
    (
        "ruff.sarif",
        ["src/calc.py:17", "src/calc.py:18", *(f"tests/test_calc.py:{line}" for line in (8, 13, 16, 45))],
    ),
    ("bandit.sarif", ["src/calc.py:1", "src/calc.py:18"]),  # "Low: 1, High: 1"
    ("semgrep.sarif", ["src/calc.py:18"]),  # "1 finding"
    ("eslint.sarif", ["src/calc.js:15", "src/calc.js:16"]),  # "2 problems (1 error, 1 warning)"
    ("trivy.sarif", ["package-lock.json:12"]),
]


@pytest.mark.parametrize(("name", "ran", "failures", "skipped", "failed"), TESTS, ids=[each[0] for each in TESTS])
def test_tests_are_counted_as_their_tool_counts_them(
    name: str, ran: int, failures: int, skipped: int, failed: set[str]
) -> None:
    counted = merged_cases([read_junit((CORPUS / name).read_bytes(), START)])
    assert (counted.ran, counted.failures, counted.unnamed) == (ran, failures, 0)
    assert sum(case.outcome == "skipped" for case in counted.cases) == skipped
    assert len(counted.failed) == len(failed)
    assert all(any(test.endswith(end) for test in counted.failed) for end in failed), counted.failed


@pytest.mark.parametrize(("name", "covered", "lines", "files"), COVERAGE, ids=[each[0] for each in COVERAGE])
def test_coverage_is_what_its_tool_says_and_of_the_commits_files(
    name: str, covered: int, lines: int, files: set[str]
) -> None:
    collected, reported = Collected(PathResolver(files, CHECKOUTS)), Reported()
    reported.read("coverage", [(f"out/{name}", (CORPUS / name).read_bytes())], START)
    collected.add(reported)
    counts = [count for hits in collected.hits.values() for count in hits.values()]
    assert (sum(map(bool, counts)), len(counts), set(collected.hits)) == (covered, lines, files)
    assert collected.other_hits == {}


@pytest.mark.parametrize(("name", "places"), FINDINGS, ids=[each[0] for each in FINDINGS])
def test_findings_are_those_that_their_tool_found(name: str, places: list[str]) -> None:
    tracked = {place.partition(":")[0] for place in places}
    collected, reported = Collected(PathResolver(tracked, CHECKOUTS)), Reported()
    reported.read("sarif", [(name, (CORPUS / name).read_bytes())], START)
    collected.add(reported)
    offenders = [finding.offender for finding in collected.findings]
    assert sorted(f"{place.file}:{place.line}" for place in offenders) == sorted(places)
    assert all(place.message for place in offenders)
    assert all(finding.rule.split()[0] for finding in read_sarif((CORPUS / name).read_bytes()))


def test_every_report_of_the_corpus_is_read() -> None:
    named = {each[0] for table in (TESTS, COVERAGE, FINDINGS) for each in table}
    assert named == {path.name for path in CORPUS.iterdir()} - {"README.md"}
