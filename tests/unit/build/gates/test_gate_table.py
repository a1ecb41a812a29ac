"""The table of gates: what a step leaves at its report's path → the verdict, and what it says.

Thresholds: no failing test, 50 % coverage, 50 % of changed lines, one finding, none that is new. A report is read from
a file as after a step that began at noon; the commit holds a file `copied`.
"""

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from services.build.gates.baseline import Baseline, changed_coverage, new_findings
from services.build.gates.flaky import weigh
from services.build.gates.gate import GateResult, evaluate
from services.build.gates.report_collection import Collected, collect
from services.build.reports.metric import Measure
from services.build.reports.path_resolver import PathResolver
from services.build.reports.report_file import LARGEST_BYTES, StepStart, blob_id
from shared.manifest import Gates, Reports

NOON = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
GATES = Gates(test_failures=0, coverage=50, changed_coverage=50, findings=1, new_findings=0)
PASSES, FAILS = True, False
Write = Callable[[Path], object]


def text(content: str | bytes) -> Write:
    return lambda path: path.write_bytes(content if isinstance(content, bytes) else content.encode())


def missing(path: Path) -> None:
    """The step writes nothing."""


def huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(LARGEST_BYTES + 1)


def stale(content: str) -> Write:
    """Written a minute before the step began."""

    def write(path: Path) -> None:
        path.write_text(content)
        os.utime(path, (NOON.timestamp() - 60, NOON.timestamp() - 60))

    return write


def link(path: Path) -> None:
    path.with_name("elsewhere").write_text(JUNIT)
    path.symlink_to("elsewhere")


def junit(*cases: str, attributes: str = "") -> str:
    names = "".join(f"<testcase classname='t' name='{number}'>{case}</testcase>" for number, case in enumerate(cases))
    return f"<testsuite {attributes}>{names}</testsuite>"


def cobertura(*hits: object, attributes: str = "") -> str:
    lines = "".join(f'<line number="{number}" hits="{count}"/>' for number, count in enumerate(hits, 1))
    return f'<coverage {attributes}><class filename="a.py"><lines>{lines}</lines></class></coverage>'


def lcov(*hits: object, end: str = "end_of_record\n") -> str:
    return "SF:a.py\n" + "".join(f"DA:{number},{count}\n" for number, count in enumerate(hits, 1)) + end


def sarif(*results: str, version: str = "2.1.0", more: str = "") -> str:
    return f'{{"version": "{version}", "runs": [{{"results": [{", ".join(results)}]{more}}}]}}'


JUNIT = junit("", "")
BOMB = '<!DOCTYPE a [<!ENTITY b "c"><!ENTITY d "&b;&b;">]>'
OUTSIDE = '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]>'
FINDING = '{"ruleId": "E1"}'
NO = "no readable figure: report "
MISSING = NO + "was not written by the step"
HUGE = NO + "is larger than 20 MiB"
STALE = NO + "is older than its step: it comes from elsewhere"
ENTITIES = NO + "declares XML entities, which are not read"
BROKEN_XML = NO + "is not whole XML: …"
NOT_JSON = NO + "is not whole SARIF (JSONDecodeError)"
NO_RUN = NO + "is not SARIF 2.1 with at least one run"

# kind of report, case, what is written, verdict of its gate, message (… is the parser's own words)
TABLE: list[tuple[str, str, Write, bool, str]] = [
    ("junit", "all pass", text(JUNIT), PASSES, "0, at most 0"),
    ("junit", "one fails", text(junit("", "<failure/>")), FAILS, "1, at most 0"),
    ("junit", "one errs", text(junit("", "<error/>")), FAILS, "1, at most 0"),
    ("junit", "claims more", text(junit("", attributes='failures="3"')), FAILS, "3, at most 0"),
    ("junit", "missing", missing, FAILS, MISSING),
    ("junit", "empty file", text(""), FAILS, BROKEN_XML),
    ("junit", "no test", text("<testsuite/>"), FAILS, NO + "holds no test"),
    ("junit", "all skipped", text(junit("<skipped/>")), FAILS, NO + "holds no test that ran (1 skipped)"),
    ("junit", "truncated", text(JUNIT[:-9]), FAILS, BROKEN_XML),
    ("junit", "NaN", text(junit("", attributes='failures="NaN"')), FAILS,
     NO + 'says failures="NaN", which is not a count'),
    ("junit", "negative", text(junit("", attributes='errors="-1"')), FAILS,
     NO + 'says errors="-1", which is not a count'),
    ("junit", "huge", huge, FAILS, HUGE),
    ("junit", "entity bomb", text(BOMB + JUNIT), FAILS, ENTITIES),
    ("junit", "entity from outside", text(OUTSIDE + JUNIT), FAILS, ENTITIES),
    ("junit", "wrong format", text(cobertura(1)), FAILS, NO + "is not JUnit XML: its root is <coverage>"),
    ("junit", "binary", text(b"\xff\xfe\x00"), FAILS, BROKEN_XML),
    ("junit", "stale file", stale(JUNIT), FAILS, STALE),
    ("junit", "stale content", text(junit("", attributes='timestamp="2026-01-01T11:59:00+00:00"')), FAILS,
     NO + "was written at 2026-01-01T11:59:00+00:00, before its step began: it comes from elsewhere"),
    ("junit", "copied from the commit", text("copied"), FAILS,
     NO + "is a copy of a file of the commit, not the result of this build"),
    ("junit", "a link", link, FAILS,
     NO + "is reached through the link report; a report is a file that the step writes"),
    ("junit", "a folder", Path.mkdir, FAILS, NO + "cannot be read: Is a directory"),

    ("cobertura", "threshold met exactly", text(cobertura(1, 0)), PASSES, "50, at least 50"),
    ("cobertura", "a hair below", text(cobertura(*[1] * 49, *[0] * 50)), FAILS, "49.49, at least 50"),
    ("cobertura", "rate that lies", text(cobertura(1, 0, 0, attributes='line-rate="1"')), FAILS, "33.33, at least 50"),
    ("cobertura", "missing", missing, FAILS, MISSING),
    ("cobertura", "empty file", text(""), FAILS, NO + "holds no coverable line"),
    ("cobertura", "no line", text(cobertura()), FAILS, NO + "holds no coverable line"),
    ("cobertura", "truncated", text(cobertura(1)[:-5]), FAILS, BROKEN_XML),
    ("cobertura", "NaN rate", text(cobertura(1, attributes='line-rate="NaN"')), PASSES, "100, at least 50"),
    ("cobertura", "NaN hits", text(cobertura("NaN")), FAILS, NO + 'says hits="NaN", which is not a count'),
    ("cobertura", "huge", huge, FAILS, HUGE),
    ("cobertura", "entity bomb", text(BOMB + cobertura(1)), FAILS, ENTITIES),
    ("cobertura", "wrong format", text(JUNIT), FAILS, NO + "is neither Cobertura nor LCOV: its root is <testsuite>"),
    ("cobertura", "stale file", stale(cobertura(1)), FAILS, STALE),
    ("cobertura", "stale content", text(cobertura(1, attributes='timestamp="1767265000"')), FAILS,
     NO + "was written at 2026-01-01T10:56:40+00:00, before its step began: it comes from elsewhere"),

    ("lcov", "threshold met exactly", text(lcov(1, 0)), PASSES, "50, at least 50"),
    ("lcov", "a hair below", text(lcov(*[1] * 49, *[0] * 50)), FAILS, "49.49, at least 50"),
    ("lcov", "missing", missing, FAILS, MISSING),
    ("lcov", "no line", text(lcov()), FAILS, NO + "holds no coverable line"),
    ("lcov", "truncated", text(lcov(1, end="")), FAILS, NO + "is cut off: the record of a.py has no end"),
    ("lcov", "NaN", text(lcov("NaN")), FAILS, NO + 'says DA:1="NaN", which is not a count'),
    ("lcov", "negative", text(lcov(-1)), FAILS, NO + 'says DA:1="-1", which is not a count'),
    ("lcov", "huge", huge, FAILS, HUGE),
    ("lcov", "wrong format", text(sarif()), FAILS, NO + "holds no coverable line"),
    ("lcov", "binary", text(b"\x80"), FAILS, NO + "is not text in UTF-8; write it in UTF-8"),
    ("lcov", "stale file", stale(lcov(1)), FAILS, STALE),

    ("sarif", "threshold met exactly", text(sarif(FINDING)), PASSES, "1, at most 1"),
    ("sarif", "one too many", text(sarif(FINDING, FINDING)), FAILS, "2, at most 1"),
    ("sarif", "nothing found", text(sarif()), PASSES, "0, at most 1"),
    ("sarif", "missing", missing, FAILS, MISSING),
    ("sarif", "empty file", text(""), FAILS, NOT_JSON),
    ("sarif", "no run", text('{"version": "2.1.0", "runs": []}'), FAILS, NO_RUN),
    ("sarif", "no results", text('{"version": "2.1.0", "runs": [{}]}'), FAILS, NO + "is not whole SARIF (KeyError)"),
    ("sarif", "truncated", text(sarif()[:-3]), FAILS, NOT_JSON),
    ("sarif", "NaN", text("NaN"), FAILS, NO + "is not whole SARIF (TypeError)"),
    ("sarif", "huge", huge, FAILS, HUGE),
    ("sarif", "too deep", text("[" * 100_000), FAILS, NO + "is not whole SARIF (RecursionError)"),
    ("sarif", "wrong format", text(JUNIT), FAILS, NOT_JSON),
    ("sarif", "wrong version", text(sarif(version="1.0.0")), FAILS, NO_RUN),
    ("sarif", "tool broke off", text(sarif(more=', "invocations": [{"executionSuccessful": false}]')), FAILS,
     NO + "says that the tool did not run to its end"),
    ("sarif", "stale file", stale(sarif()), FAILS, STALE),
]  # fmt: skip
GATE_OF = {"junit": "test_failures", "cobertura": "coverage", "lcov": "coverage", "sarif": "findings"}
COMPARED = {"coverage": "changed_coverage", "findings": "new_findings"}


@pytest.mark.parametrize(
    ("kind", "write", "passes", "message"),
    [(kind, write, passes, message) for kind, _, write, passes, message in TABLE],
    ids=[f"{kind}: {case}" for kind, case, *_ in TABLE],
)
def test_the_verdict_on_a_report(tmp_path: Path, kind: str, write: Write, passes: bool, message: str) -> None:
    write(tmp_path / "report")
    results = verdicts(tmp_path, kind)
    result = results[GATE_OF[kind]]
    begin, cut, _ = message.partition("…")
    assert (result.passed, result.reason[: len(begin)] if cut else result.reason) == (passes, begin)
    if result.figure is None and result.name in COMPARED:
        compared = results[COMPARED[result.name]]
        assert (compared.passed, compared.figure) == (FAILS, None), "what compares has no figure either"


@pytest.mark.parametrize("kind", GATE_OF)
def test_the_verdict_without_a_step_that_reports(tmp_path: Path, kind: str) -> None:
    result = verdicts(tmp_path, "nothing")[GATE_OF[kind]]
    assert (result.passed, result.reason) == (FAILS, "no readable figure: no step reports it")


def verdicts(folder: Path, kind: str) -> dict[str, GateResult]:
    """Returns the gates' results for a commit with the file a.py in which every line has changed, made in the
    pipeline's way.
    """
    path = {"cobertura": "coverage", "lcov": "coverage"}.get(kind, kind)
    reports = Reports() if kind == "nothing" else Reports.model_validate({path: "report"})
    start = StepStart(int(NOON.timestamp() * 1e9))
    reported = collect(reports, folder, start, {blob_id(b"copied")})
    collected = Collected(PathResolver(["a.py"]))
    collected.add(reported, weigh([reported.cases], [], "test", {}, 5, NOON) if reported.cases else None)
    measures = collected.measures()
    if "coverage" in measures:
        of = changed_coverage(collected.hits, {"a.py": [range(1, 1000)]}, "since notes-1")
        measures["changed_coverage"] = of if measures["coverage"].figure is not None else measures["coverage"]
    findings = measures.get("findings", Measure(0)).findings
    measures["new_findings"] = new_findings(findings, measures, Baseline(build="notes-1", commit="c"))
    return {result.name: result for result in evaluate(GATES, measures)}
