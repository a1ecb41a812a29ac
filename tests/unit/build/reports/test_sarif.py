import json
from typing import Any

import pytest

from services.build.gates.baseline import Baseline, fingerprints, new_findings
from services.build.reports.report_text import Unreadable
from services.build.reports.sarif import read_sarif
from shared.security.mask import Mask


def report(results: list[dict[str, Any]], **run: Any) -> bytes:
    return json.dumps({"version": "2.1.0", "runs": [{"results": results, **run}]}).encode()


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


def test_what_tools_say_is_masked_before_it_is_cut() -> None:
    result = {"ruleId": "R1", "message": {"text": "x" * 190 + "hunter2-and-more"}}
    document = {"version": "2.1.0", "runs": [{"results": [result]}]}
    (finding,) = read_sarif(json.dumps(document).encode(), Mask(["hunter2-and-more"]))
    assert finding.offender.message.endswith("xx***")


RULES = [
    {"id": "STYLE"},
    {"id": "SQLI", "defaultConfiguration": {"level": "error"}, "messageStrings": {"d": {"text": "{0} in {1}"}}},
]
DRIVER = {"name": "t", "rules": RULES}


@pytest.mark.parametrize(
    ("result", "rule"),
    [
        ({"ruleIndex": 1}, "SQLI"),
        ({"rule": {"index": 0}}, "STYLE"),
        ({"rule": {"index": 0, "toolComponent": {"index": 0}}}, "EXTRA"),
        ({"rule": {"index": 0, "toolComponent": {"name": "plugin"}}}, "EXTRA"),
        ({"rule": {"id": "SQLI"}}, "SQLI"),
        ({"ruleId": "SQLI/2"}, "SQLI/2"),
    ],
)
def test_a_result_may_name_its_rule_by_a_reference(result: dict[str, Any], rule: str) -> None:
    tool = {"driver": DRIVER, "extensions": [{"name": "plugin", "rules": [{"id": "EXTRA"}]}]}
    (finding,) = read_sarif(report([result], tool=tool))
    assert finding.rule == f"t {rule}"


def test_a_message_and_a_level_may_stand_with_the_rule() -> None:
    result = {"ruleIndex": 1, "message": {"id": "d", "arguments": ["a query", "calc"]}}
    first, _ = read_sarif(report([{"ruleIndex": 0}, result], tool={"driver": DRIVER}))
    assert first.offender.message == "SQLI a query in calc"


def test_another_rule_on_the_same_line_is_new() -> None:
    place = [{"physicalLocation": {"artifactLocation": {"uri": "calc.py"}, "region": {"startLine": 2}}}]
    before, after = (
        read_sarif(report([{"ruleIndex": index, "locations": place}], tool={"driver": DRIVER})) for index in (0, 1)
    )
    baseline = Baseline(build="x-1", commit="c" * 40, findings=fingerprints(before))
    assert new_findings(before, {}, baseline).figure == 0
    assert new_findings(after, {}, baseline).figure == 1


def test_a_result_that_says_nothing_cannot_be_told_from_others_and_is_new() -> None:
    found = read_sarif(report([{}]))
    baseline = Baseline(build="x-1", commit="c" * 40, findings=fingerprints(found))
    assert new_findings(found, {}, baseline).figure == 1


@pytest.mark.parametrize(
    ("result", "counts"),
    [
        ({"suppressions": [{"kind": "external", "status": "rejected"}]}, True),
        ({"suppressions": [{"kind": "external", "status": "underReview"}]}, True),
        ({"suppressions": [{"kind": "external", "status": "rejected"}, {"kind": "inSource"}]}, False),
        ({"suppressions": [{"kind": "inSource", "status": "accepted"}]}, False),
        ({"suppressions": []}, True),
        ({"baselineState": "absent"}, False),
        ({"baselineState": "unchanged"}, True),
    ],
)
def test_a_result_counts_unless_it_says_that_it_does_not_stand(result: dict[str, Any], counts: bool) -> None:
    assert len(read_sarif(report([{"ruleId": "E1", **result}]))) == counts


def test_a_file_may_be_named_by_its_index_and_below_a_base() -> None:
    artifacts = [{"location": {"uri": "src/a%20b.py", "uriBaseId": "ROOT"}}]
    place = [{"physicalLocation": {"artifactLocation": {"index": 0}}}]
    bases = {"ROOT": {"uri": "file:///w/notes"}}
    (finding,) = read_sarif(report([{"locations": place}], artifacts=artifacts, originalUriBaseIds=bases))
    assert finding.offender.file == "file:///w/notes/src/a%20b.py"


def test_a_byte_order_mark_changes_nothing_and_results_in_another_file_are_missed() -> None:
    for encoding in ("utf-8-sig", "utf-16"):
        assert len(read_sarif(report([{"ruleId": "E"}]).decode().encode(encoding))) == 1
    with pytest.raises(Unreadable, match="in other files"):
        read_sarif(report([], externalPropertyFileReferences={"results": [{"location": {"uri": "r.json"}}]}))
