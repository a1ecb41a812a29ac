"""Reports that mean harm: each is refused with a reason or comes to figures that can be stored and shown; none stops
the service."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from services.build.gates.gate import GateResult, evaluate, refusal
from services.build.gates.report_collection import Collected, Reported
from services.build.git.tree_limits import LONGEST_PATH
from services.build.reports.path_resolver import PathResolver
from services.build.reports.report_text import Unreadable
from shared.manifest import Gates

AT = datetime(2026, 1, 1, tzinfo=UTC)
GATES = Gates(test_failures=0, coverage=50, findings=0)
LONG, DEEP = "9" * 5000, 100_000
SOURCES = "<source>/x</source>" * 10_000


def judged(kind: str, data: bytes) -> list[GateResult]:
    """Through everything that a report goes through; as they are stored."""
    reported, collected = Reported(), Collected(PathResolver(["src/app.py"]))
    try:
        reported.read(kind, [("it", data)], AT)
    except Unreadable as error:
        reported.refuse(kind, str(error))
    collected.add(reported, None)
    results = evaluate(GATES, collected.measures())
    return [GateResult.model_validate_json(result.model_dump_json()) for result in results]


def sarif(**result: Any) -> bytes:
    run = {"tool": {"driver": {"name": "\ud800"}}, "results": [{"ruleId": "R", "message": {"text": "x"}, **result}]}
    return json.dumps({"version": "2.1.0", "runs": [run]}).encode()


def at(uri: Any, line: Any = 1) -> list[Any]:
    return [{"physicalLocation": {"artifactLocation": {"uri": uri}, "region": {"startLine": line}}}]


def cobertura(name: str = "src/app.py", number: str = "1", hits: str = "1", head: str = "", inner: str = "") -> bytes:
    line = f'<line number="{number}" hits="{hits}"/>'
    return f'<coverage {head}>{inner}<class filename="{name}"><lines>{line}</lines></class></coverage>'.encode()


@pytest.mark.parametrize(
    ("kind", "data", "reason"),
    [
        ("junit", f'<testsuite failures="{LONG}"><testcase name="a"/></testsuite>'.encode(), "which is not a count"),
        ("junit", f"<testsuite>{'<a>' * DEEP}{'</a>' * DEEP}</testsuite>".encode(), "holds no test"),
        ("junit", b"<testsuite timestamp='1971-01-01T00:00:00+14:00'><testcase name='a'/></testsuite>", "was written"),
        ("coverage", cobertura(number=LONG), "which is not a line"),
        ("coverage", cobertura(hits=LONG), "which is not a count"),
        ("coverage", f"SF:a\nDA:{'9' * 400},1\nend_of_record\n".encode(), "is neither Cobertura nor LCOV"),
        ("coverage", f"SF:a\nDA:{LONG},1\nend_of_record\n".encode(), "is neither Cobertura nor LCOV"),
        ("sarif", b"[" * DEEP + b"]" * DEEP, "RecursionError"),
        ("sarif", b'{"version": "2.1.0", "runs": ' + b"[" * DEEP + b"]" * DEEP + b"}", "RecursionError"),
        ("sarif", sarif(locations=at("a", 1))[:-3], "is not whole SARIF"),
        ("sarif", sarif(level=["x"]), "is not whole SARIF"),
        ("sarif", sarif(message="text"), "is not whole SARIF"),
    ],
)
def test_a_report_that_cannot_be_right_does_not_count(kind: str, data: bytes, reason: str) -> None:
    assert reason in refusal(judged(kind, data))


@pytest.mark.parametrize(
    ("data", "file", "line"),
    [
        (sarif(locations=at("src/app.py", int("9" * 400))), "src/app.py", None),
        (sarif(locations=at("../../../etc/passwd")), "../../../etc/passwd", 1),
        (sarif(locations=at("file://[no")), "file://[no", 1),
        (sarif(locations=at("\ud800")), "?", 1),
        (sarif(ruleId="\udfff", locations=at("x/../src/app.py")), "src/app.py", 1),
        (
            sarif(locations=at("/" + "a/" * 500_000 + "app.py")),
            "…" + ("a/" * LONGEST_PATH + "app.py")[-LONGEST_PATH:],
            1,
        ),
    ],
)
def test_a_finding_anywhere_is_one_and_can_be_shown(data: bytes, file: str, line: int | None) -> None:
    findings = next(result for result in judged("sarif", data) if result.name == "findings")
    assert (findings.figure, findings.passed) == (1, False)
    assert (findings.offenders[0].file, findings.offenders[0].line) == (file, line)


def test_what_a_finding_says_is_obeyed_by_no_terminal() -> None:
    shown = refusal(judged("sarif", sarif(message={"text": "\x1b[2Jnew\r\nline \x9b2J"})))
    assert "R new line �2J" in shown


@pytest.mark.parametrize(
    ("data", "file"),
    [
        (cobertura("../../../etc/passwd", hits="0"), "../../../etc/passwd"),
        (cobertura("/etc/passwd", hits="0"), "/etc/passwd"),
        (cobertura(hits="0", head='timestamp="²"', inner=f"<sources>{SOURCES}</sources>"), "src/app.py"),
        (cobertura("/" + "a/" * 500_000 + "app.py", hits="0"), "…" + ("a/" * LONGEST_PATH + "app.py")[-LONGEST_PATH:]),
    ],
)
def test_lines_of_files_that_are_elsewhere_are_counted_and_not_looked_for(data: bytes, file: str) -> None:
    coverage = next(result for result in judged("coverage", data) if result.name == "coverage")
    assert (coverage.figure, coverage.offenders[0].file) == (0, file)
