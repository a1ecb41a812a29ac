"""Parses JUnit XML in the variants that test tools write. Incomplete reports are refused. Pure."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from xml.etree.ElementTree import Element

from services.build.reports.metric import Offender, brief
from services.build.reports.report_text import CLOCK_TOLERANCE, Unreadable, check_not_older, is_count, xml_root
from services.build.reports.test_case import Case, outcome_of, read_case

ZONE_TOLERANCE = timedelta(hours=14)  # a time without a zone may be in any time zone
NAME_CHARACTERS = 300
SUITES = ("testsuites", "testsuite")
NO_CLAIM = ("", "undefined", "null", "none")  # texts that programs write instead of a missing number


@dataclass(frozen=True)
class CaseCount:
    """Holds the test cases of a JUnit report, with counts."""

    ran: int
    """Number of cases that ran."""
    failures: int
    """Number of failed cases, or the number that the report's suites declare if that is larger."""
    failed: Mapping[str, int] = field(default_factory=dict)
    """Test id → number of failed cases."""
    passed: frozenset[str] = frozenset()
    """Ids of the tests none of whose cases failed."""
    offenders: Mapping[str, Offender] = field(default_factory=dict)
    """Test id → place of a failed case."""
    cases: tuple[Case, ...] = ()

    @property
    def unnamed(self) -> int:
        """Returns the number of failures without a test id."""
        return self.failures - sum(self.failed.values())


def merged_cases(counts: Sequence[CaseCount]) -> CaseCount:
    """Returns the test cases of several reports of one run of a step as if they were one report. Raises Unreadable if
    no case ran.
    """
    failed = sum((Counter(count.failed) for count in counts), Counter[str]())
    whole = CaseCount(
        ran=sum(count.ran for count in counts),
        failures=sum(count.failures for count in counts),
        failed=failed,
        passed=frozenset().union(*(count.passed for count in counts)) - failed.keys(),
        offenders={test: place for count in counts for test, place in count.offenders.items()},
        cases=tuple(case for count in counts for case in count.cases),
    )
    if not whole.ran:
        raise Unreadable("holds no test" + (f" that ran ({len(whole.cases)} skipped)" if whole.cases else ""))
    return whole


def read_junit(data: bytes, not_before: datetime, mask: Callable[[str], str] = str) -> CaseCount:
    """Returns the test cases of a JUnit report, of which there may be none. `mask` masks secrets in names and messages
    before these are cut. If a case has several outcomes, the worst counts. A suite that failed as a whole counts as a
    failed case without a name. Raises Unreadable if the report cannot be read, or if its newest time is before
    `not_before`.
    """
    root = xml_root(data)
    if root.tag not in SUITES:
        raise Unreadable(f"is not JUnit XML: its root is <{root.tag}>")
    for element in root.iter():
        _mask(element, mask)
    suites = [element for element in root.iter() if element.tag in SUITES]
    cases = [read_case(element, _id(element)) for element in root.iter("testcase")]
    failing = [element for element in root.iter("testcase") if outcome_of(element) == "failed"]
    broken = sum(1 for suite in suites if any(child.tag in ("failure", "error") for child in suite))
    ran = [case for case in cases if case.outcome != "skipped"]
    if stamps := list(_stamps(suites)):
        at, tolerance = max(stamps)
        check_not_older(at, not_before, tolerance)
    failed = Counter(name for element in failing if (name := _id(element)))
    return CaseCount(
        ran=len(ran) + broken,
        failures=max(len(failing) + broken, *(_claimed_failures(suite) for suite in suites)),
        failed=failed,
        passed=frozenset({_id(e) for e in root.iter("testcase") if outcome_of(e) == "passed"} - failed.keys() - {""}),
        offenders={_id(element): _offender(element) for element in failing},
        cases=tuple(cases),
    )


def case_id(classname: str | None, name: str | None) -> str:
    """Returns the test id `<class>::<name>` on one line, at most 300 characters; empty for a test without a name."""
    whole = " ".join("::".join(part for part in (classname, name) if part).split())
    if len(whole) <= NAME_CHARACTERS:
        return whole
    return f"{whole[: NAME_CHARACTERS - 10]}…{hashlib.sha256(whole.encode()).hexdigest()[:9]}"


def _mask(element: Element, mask: Callable[[str], str]) -> None:
    for name in ("classname", "name", "file", "message"):
        if text := element.get(name):
            element.set(name, mask(text))
    if element.tag in ("failure", "error", "skipped", "system-out", "system-err") and element.text:
        element.text = mask(element.text)


def _id(element: Element) -> str:
    return case_id(element.get("classname"), element.get("name"))


def _offender(element: Element) -> Offender:
    """Returns the place of a failed case. Its message is the first line of the case's first failure."""
    line, name = element.get("line", ""), _id(element) or "a test without a name"
    text = next((child.get("message") or child.text for child in element if child.tag in ("failure", "error")), None)
    first = (text or "").strip().partition("\n")[0]
    return Offender(
        file=element.get("file") or None,
        line=int(line) if is_count(line) else None,
        message=brief(f"{name}: {first}") if first else name,
    )


def _claimed_failures(suite: Element) -> int:
    return sum(_claim(suite, name) for name in ("failures", "errors"))


def _claim(suite: Element, name: str) -> int:
    text = suite.get(name, "").strip()
    if text.lower() in NO_CLAIM:
        return 0
    if not is_count(text.removesuffix(".0")):
        raise Unreadable(f'says {name}="{text[:40]}", which is not a count')
    return int(text.removesuffix(".0"))


def _stamps(suites: list[Element]) -> Iterator[tuple[datetime, timedelta]]:
    """Yields the times that the suites give, each with the tolerance for comparing it. A time without a zone needs a
    larger one.
    """
    for suite in suites:
        try:
            at = datetime.fromisoformat(suite.get("timestamp", ""))
        except ValueError:
            continue
        yield (at, CLOCK_TOLERANCE) if at.tzinfo else (at.replace(tzinfo=UTC), ZONE_TOLERANCE)
