import json
from datetime import UTC, datetime

import pytest

from services.build.logs.mask import Mask
from services.build.reports.metric import Offender
from services.build.reports.report import Unreadable, case_id, read_coverage, read_junit, read_sarif

START = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
LINES = '<packages><package><classes><class filename="a.py"><lines>%s</lines></class></classes></package></packages>'
TWO = '<line number="1" hits="3"/><line number="2" hits="0"/>'


def cobertura(lines: str = TWO, attributes: str = "") -> bytes:
    return f"<coverage {attributes}>{LINES % lines}</coverage>".encode()


def test_junit_counts_cases_in_nested_suites() -> None:
    text = b"""<testsuites><testsuite><testcase name="a" classname="m"/><testsuite>
      <testcase name="b" classname="m"><failure/></testcase><testcase name="c"><error/></testcase>
      <testcase name="d"><skipped/></testcase></testsuite></testsuite></testsuites>"""
    counted = read_junit(text, START)
    assert (counted.ran, counted.failures, counted.failed, counted.unnamed) == (3, 2, {"m::b": 1, "c": 1}, 0)
    assert counted.passed == {"m::a"}


def test_a_failing_test_says_where_and_why() -> None:
    case = b'<testcase classname="m" name="b" file="m.py" line="7"><failure message="no&#10;more"/></testcase>'
    counted = read_junit(b"<testsuite>" + case + b"</testsuite>", START)
    assert counted.offenders["m::b"] == Offender(file="m.py", line=7, message="m::b: no")


def test_a_test_fails_if_one_of_its_cases_does_and_those_without_a_name_are_nobodys() -> None:
    cases = b'<testcase name="a"/><testcase name="a"><error/></testcase><testcase><failure/></testcase>'
    counted = read_junit(b"<testsuite>" + cases + b"</testsuite>", START)
    assert (counted.failed, counted.passed, counted.unnamed) == ({"a": 1}, frozenset(), 1)


def test_an_id_is_one_line_and_short_and_still_tells_apart() -> None:
    assert case_id("m", "a\n b") == "m::a b"
    long = [case_id("m", "x" * 400 + end) for end in "ab"]
    assert [len(each) for each in long] == [300, 300]
    assert long[0] != long[1]


def test_a_suite_that_claims_more_failures_is_believed() -> None:
    assert read_junit(b'<testsuite errors="1" failures="1"><testcase name="a"/></testsuite>', START).failures == 2


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"<testsuite/>", "holds no test"),
        (b"<testsuite><testcase><skipped/></testcase></testsuite>", "holds no test that ran (1 skipped)"),
        (b"<testsuite><testcase name='a'>", "is not whole XML"),
        (b"", "is not whole XML"),
        (b"\xff\xfe\x00", "is not whole XML"),
        (b"<html/>", "is not JUnit XML"),
        (b'<testsuite failures="NaN"><testcase/></testsuite>', 'says failures="NaN"'),
        (b'<testsuite failures="-1"><testcase/></testsuite>', 'says failures="-1"'),
        (b'<!DOCTYPE a [<!ENTITY b "c">]><testsuite><testcase name="&b;"/></testsuite>', "entities"),
        (b'<testsuite timestamp="2026-01-01T11:59:50+00:00"><testcase/></testsuite>', "comes from elsewhere"),
        (b'<testsuite timestamp="2025-12-30T12:00:00"><testcase/></testsuite>', "comes from elsewhere"),
    ],
)
def test_a_junit_report_that_does_not_count(text: bytes, why: str) -> None:
    with pytest.raises(Unreadable) as caught:
        read_junit(text, START)
    assert why in str(caught.value)


@pytest.mark.parametrize("stamp", ["2026-01-01T11:59:59Z", "2026-01-01T02:00:00", "yesterday"])
def test_a_report_of_now_or_of_any_local_time_counts(stamp: str) -> None:
    assert read_junit(f'<testsuite timestamp="{stamp}"><testcase/></testsuite>'.encode(), START).ran == 1


def test_cobertura_is_counted_by_lines_whatever_its_rate_says() -> None:
    doubled = TWO + '<line number="2" hits="1"/>'
    assert read_coverage(cobertura(attributes='line-rate="1.0"'), START).covered == 1
    assert read_coverage(cobertura(doubled), START).covered == 2


def test_cobertura_with_a_document_type_is_read() -> None:
    declared = b'<!DOCTYPE coverage SYSTEM "http://cobertura.sourceforge.net/xml/coverage-04.dtd">' + cobertura()
    assert read_coverage(declared, START).lines == 2


def test_lcov_is_counted_by_lines() -> None:
    counted = read_coverage(
        b"TN:\nSF:a.js\nDA:1,1\nDA:2,0,hash\nend_of_record\nSF:b.js\nDA:1,4\nend_of_record\n", START
    )
    assert (counted.lines, counted.covered) == (3, 2)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (cobertura(""), "holds no coverable line"),
        (cobertura(attributes='line-rate="NaN"'), "is not a number"),
        (cobertura(attributes='line-rate="high"'), "is not a number"),
        (cobertura(attributes='timestamp="1767265000000"'), "comes from elsewhere"),
        (cobertura('<line number="1" hits="NaN"/>'), 'says hits="NaN"'),
        (cobertura('<line number="1" hits="-3"/>'), 'says hits="-3"'),
        (cobertura()[:-20], "is not whole XML"),
        (b"<report/>", "is neither Cobertura nor LCOV"),
        (b"", "holds no coverable line"),
        (b"SF:a.js\nDA:1,NaN\nend_of_record", "is neither"),
        (b"SF:a.js\nDA:1,1\n", "is cut off"),
        (b"DA:1,1\n", "belongs to no file"),
        (b"SF:a.js\nend_of_record\n", "holds no coverable line"),
        (b"\xff\xfe", "is neither"),
    ],
)
def test_a_coverage_report_that_does_not_count(text: bytes, why: str) -> None:
    with pytest.raises(Unreadable) as caught:
        read_coverage(text, START)
    assert why in str(caught.value)


def test_sarif_counts_failures_that_are_not_suppressed() -> None:
    place = '{"physicalLocation":{"artifactLocation":{"uri":"a.py"},"region":{"startLine":3}}}'
    results = f'{{"ruleId":"E1","locations":[{place}]}},{{"kind":"pass"}},{{"suppressions":[{{"kind":"inSource"}}]}}'
    text = f'{{"version":"2.1.0","runs":[{{"tool":{{"driver":{{"name":"t"}}}},"results":[{results}]}}]}}'
    [finding] = read_sarif(text.encode())
    assert (finding.rule, str(finding.offender)) == ("t E1", "a.py:3 E1")
    assert read_sarif(b'{"version":"2.1.0","runs":[{"results":[]}]}') == ()


def test_errors_come_before_warnings_and_notes() -> None:
    levels = ",".join(f'{{"ruleId":"{level}","level":"{level}"}}' for level in ("note", "error", "warning"))
    found = read_sarif(f'{{"version":"2.1.0","runs":[{{"results":[{levels}]}}]}}'.encode())
    assert [finding.offender.message for finding in found] == ["error", "warning", "note"]


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"null",
        b'{"version":"2.1.0","runs":[]}',
        b'{"version":"1.0.0","runs":[{"results":[]}]}',
        b'{"version":"2.1.0","runs":[{}]}',
        b'{"version":"2.1.0","runs":[{"results":[1]}]}',
        b'{"version":"2.1.0","runs":[{"results":[],"invocations":[{"executionSuccessful":false}]}]}',
        b"[" * 100_000,
    ],
)
def test_a_sarif_report_that_does_not_count(text: bytes) -> None:
    with pytest.raises(Unreadable):
        read_sarif(text)


def test_what_tests_say_is_masked_before_it_is_cut() -> None:
    mask = Mask(["hunter2&more"])
    word = "hunter2&amp;more"
    case = f'<testcase classname="m" name="%sb[{word}]" file="{word}.py"><failure%s</failure></testcase>'
    cases = case % ("", f">got {word}\n") + case % ("x" * 290, f' message="{"x" * 190}{word}">')
    counted = read_junit(f"<testsuite>{cases}</testsuite>".encode(), START, mask)
    assert counted.offenders["m::b[***]"] == Offender(file="***.py", message="m::b[***]: got ***")
    assert (counted.ran, counted.failures, counted.unnamed) == (2, 2, 0)
    assert "hunt" not in str(counted)


def test_cases_that_a_mask_makes_equal_are_one_test_that_failed() -> None:
    names = ("hunter2", "passw0rd")
    cases = "".join(f'<testcase name="a[{name}]">{"<failure/>" * (name == "hunter2")}</testcase>' for name in names)
    counted = read_junit(f"<testsuite>{cases}</testsuite>".encode(), START, Mask(names))
    assert (counted.failed, counted.passed, counted.failures) == ({"a[***]": 1}, frozenset(), 1)


def test_what_tools_say_is_masked_before_it_is_cut() -> None:
    result = {"ruleId": "R1", "message": {"text": "x" * 190 + "hunter2-and-more"}}
    document = {"version": "2.1.0", "runs": [{"results": [result]}]}
    (finding,) = read_sarif(json.dumps(document).encode(), Mask(["hunter2-and-more"]))
    assert finding.offender.message.endswith("xx***")
