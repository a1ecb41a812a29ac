from datetime import UTC, datetime

import pytest

from services.build.reports.junit import case_id, merged_cases, read_junit
from services.build.reports.metric import Offender
from services.build.reports.report_text import Unreadable
from shared.security.mask import Mask

START = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)


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
        merged_cases([read_junit(text, START)])
    assert why in str(caught.value)


@pytest.mark.parametrize("stamp", ["2026-01-01T11:59:59Z", "2026-01-01T02:00:00", "yesterday"])
def test_a_report_of_now_or_of_any_local_time_counts(stamp: str) -> None:
    assert read_junit(f'<testsuite timestamp="{stamp}"><testcase/></testsuite>'.encode(), START).ran == 1


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


@pytest.mark.parametrize(
    ("case", "outcome"),
    [
        ("<testcase><skipped/><failure/></testcase>", "failed"),
        ("<testcase><error/><skipped/></testcase>", "failed"),
        ('<testcase status="failed"/>', "failed"),
        ('<testcase status="run" result="completed"/>', "passed"),
        ('<testcase status="passed"/>', "passed"),
        ('<testcase status="notrun" result="suppressed"/>', "skipped"),
        ('<testcase status="run" result="skipped"/>', "skipped"),
        ('<testcase status="Disabled"/>', "skipped"),
        ("<testcase><flakyFailure/></testcase>", "passed"),
        ("<testcase><rerunFailure/><failure/></testcase>", "failed"),
    ],
)
def test_a_case_comes_to_the_worst_that_it_says(case: str, outcome: str) -> None:
    counted = read_junit(f'<testsuite><testcase name="other"/>{case}</testsuite>'.encode(), START)
    assert counted.cases[1].outcome == outcome
    assert counted.failures == (outcome == "failed")
    assert counted.ran == 1 + (outcome != "skipped")


def test_a_suite_that_failed_as_a_whole_is_a_failure() -> None:
    counted = read_junit(b'<testsuites><testsuite><error message="no module"/></testsuite></testsuites>', START)
    assert (counted.ran, counted.failures, counted.unnamed) == (1, 1, 1)


@pytest.mark.parametrize("claim", ["", "undefined", "0.0"])
def test_a_claim_that_is_no_number_is_none(claim: str) -> None:
    assert read_junit(f'<testsuite errors="{claim}"><testcase/></testsuite>'.encode(), START).failures == 0


def test_a_case_that_did_not_run_has_no_time_that_counts() -> None:
    text = b"""<testsuites timestamp="2026-01-01T12:00:01Z"><testsuite timestamp="1970-01-01T00:00:00">
      <testcase name="off" timestamp="1970-01-01T01:00:00.000" status="notrun"/>
      <testcase name="on"><failure/></testcase></testsuite></testsuites>"""
    assert read_junit(text, START).failures == 1
    only_epoch = text.replace(b' timestamp="2026-01-01T12:00:01Z"', b"")
    assert read_junit(only_epoch, START).failures == 1


def test_namespaces_and_byte_order_marks_change_nothing() -> None:
    text = '<testsuite xmlns="urn:x"><testcase name="a"><failure/></testcase></testsuite>'
    for data in (text.encode("utf-8-sig"), text.encode("utf-16")):
        assert read_junit(data, START).failures == 1


def test_the_reports_of_one_run_are_added_up_and_one_without_tests_does_no_harm() -> None:
    one = b'<testsuite><testcase name="a"/><testcase name="b"/></testsuite>'
    other = b'<testsuite errors="2"><testcase name="b"><failure/></testcase><testcase name="c"/></testsuite>'
    counts = [read_junit(text, START) for text in (one, other, b"<testsuites/>")]
    whole = merged_cases(counts)
    assert (whole.ran, whole.failures, whole.failed) == (4, 2, {"b": 1})
    assert whole.passed == {"a", "c"}, "what failed in one report has not passed"
    assert whole == merged_cases([whole])
