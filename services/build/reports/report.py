"""Parses the reports that steps write: JUnit XML, Cobertura XML or LCOV, SARIF. Incomplete ones are refused. Pure."""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from xml.etree.ElementTree import Element

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import ParseError, fromstring
from junitparser import TestCase

from services.build.reports.metric import Finding, Offender, brief
from services.build.reports.test_case import Case, read_case

CLOCK_TOLERANCE = timedelta(seconds=2)
ZONE_TOLERANCE = timedelta(hours=14)  # a time without a zone may be anybody's local time
NAME_CHARACTERS = 300
MOST_DIGITS = 15
MOST_ROOTS = 100  # each is tried with each file
SEVERITY = {"error": 0, "warning": 1, "note": 2, "none": 3}


class Unreadable(ValueError):
    """Reports that a report is refused. The message is a predicate whose subject is the report ("is not whole XML")."""


@dataclass(frozen=True)
class CaseCount:
    """Holds the test cases of a JUnit report, and counts of them."""

    ran: int
    """Number of cases that ran."""
    failures: int
    """Number of failed cases; the number that the suites claim if that is larger."""
    failed: Mapping[str, int] = field(default_factory=dict)
    """Number of failed cases by test id."""
    passed: frozenset[str] = frozenset()
    """Ids of the tests of which no case failed."""
    offenders: Mapping[str, Offender] = field(default_factory=dict)
    """Place of a failed case, by test id."""
    cases: tuple[Case, ...] = ()

    @property
    def unnamed(self) -> int:
        """Returns the number of failures without a test id."""
        return self.failures - sum(self.failed.values())


@dataclass(frozen=True)
class LineCount:
    """Holds the execution counts of a coverage report."""

    hits: Mapping[tuple[str, int], int]
    """Number of runs by file (named as in the report) and line."""
    roots: tuple[str, ...] = ()
    """Folders to which the file names may be relative."""

    @property
    def lines(self) -> int:
        return len(self.hits)

    @property
    def covered(self) -> int:
        return sum(1 for count in self.hits.values() if count > 0)


def read_junit(data: bytes, not_before: datetime, mask: Callable[[str], str] = str) -> CaseCount:
    """Counts the test cases of a JUnit report. Raises Unreadable, also for one with a time before `not_before`. `mask`
    masks secrets in names and messages, before these are cut."""
    root = _xml(data)
    for element in root.iter():
        _mask(element, mask)
    for element in root.iter():
        if stamp := element.get("timestamp"):
            _check_time(stamp, not_before)
    if root.tag not in ("testsuites", "testsuite"):
        raise Unreadable(f"is not JUnit XML: its root is <{root.tag}>")
    case_of: Any = TestCase.fromelem  # untyped
    pairs = [(element, case_of(element)) for element in root.iter("testcase")]
    ran = [(element, case) for element, case in pairs if not case.is_skipped]
    if not ran:
        raise Unreadable("holds no test" + (f" that ran ({len(pairs)} skipped)" if pairs else ""))
    failing = [(element, case) for element, case in ran if not case.is_passed]
    claimed = max(_claimed_failures(element) for element in root.iter() if element.tag in ("testsuites", "testsuite"))
    failed = Counter(name for _, case in failing if (name := case_id(case.classname, case.name)))
    names = {case_id(case.classname, case.name) for _, case in ran}
    return CaseCount(
        ran=len(ran),
        failures=max(len(failing), claimed),
        failed=failed,
        passed=frozenset(names - failed.keys() - {""}),
        offenders={case_id(case.classname, case.name): _case_offender(element, case) for element, case in failing},
        cases=tuple(
            read_case(each, case_id(case.classname, case.name), passed=case.is_passed, skipped=case.is_skipped)
            for each, case in pairs
        ),
    )


def case_id(classname: str | None, name: str | None) -> str:
    """Returns `<class>::<name>` on one line, at most 300 characters; empty for a test without a name."""
    whole = " ".join("::".join(part for part in (classname, name) if part).split())
    if len(whole) <= NAME_CHARACTERS:
        return whole
    return f"{whole[: NAME_CHARACTERS - 10]}…{hashlib.sha256(whole.encode()).hexdigest()[:9]}"


def read_coverage(data: bytes, not_before: datetime) -> LineCount:
    """Parses Cobertura XML or LCOV, whichever `data` is. Counts lines and ignores the totals in the file. Raises
    Unreadable, also for one with a time before `not_before`."""
    counted = _cobertura(data, not_before) if data.lstrip()[:1] == b"<" else LineCount(_lcov(data))
    if not counted.hits:
        raise Unreadable("holds no coverable line")
    return counted


def read_sarif(data: bytes, mask: Callable[[str], str] = str) -> tuple[Finding, ...]:
    """Returns the failures in a SARIF 2.1.0 report that are not suppressed: errors, then warnings, then notes. Files
    are named as in the report; `mask` masks secrets in messages. Raises Unreadable for any other document.
    """
    try:
        document: Any = json.loads(data)
        if not str(document["version"]).startswith("2.1") or not document["runs"]:
            raise Unreadable("is not SARIF 2.1 with at least one run")
        ranked = sorted((each for run in document["runs"] for each in _results(run, mask)), key=lambda each: each[0])
        return tuple(finding for _, finding in ranked)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        if isinstance(error, Unreadable):
            raise
        raise Unreadable(f"is not whole SARIF ({type(error).__name__})") from error


def _xml(data: bytes) -> Element:
    try:
        root: Element = fromstring(data, forbid_dtd=False)
    except DefusedXmlException as error:
        raise Unreadable("declares XML entities, which are not read") from error
    except (ParseError, ValueError, LookupError) as error:
        raise Unreadable(f"is not whole XML: {error}") from error
    return root


def _mask(element: Element, mask: Callable[[str], str]) -> None:
    for name in ("classname", "name", "file", "message"):
        if text := element.get(name):
            element.set(name, mask(text))
    if element.tag in ("failure", "error", "skipped", "system-out", "system-err") and element.text:
        element.text = mask(element.text)


def _case_offender(element: Element, case: TestCase) -> Offender:
    """Returns the place of a failed case, with the first line of its first failure as the message."""
    line, name = element.get("line", ""), case_id(case.classname, case.name) or "a test without a name"
    text = next((child.get("message") or child.text for child in element if child.tag in ("failure", "error")), None)
    first = (text or "").strip().partition("\n")[0]
    return Offender(
        file=element.get("file") or None,
        line=int(line) if _is_count(line) else None,
        message=brief(f"{name}: {first}") if first else name,
    )


def _claimed_failures(element: Element) -> int:
    return sum(_count(element, name) for name in ("failures", "errors"))


def _count(element: Element, name: str) -> int:
    text = element.get(name, "0").strip()
    if not _is_count(text):
        raise Unreadable(f'says {name}="{text[:40]}", which is not a count')
    return int(text)


def _is_count(text: str) -> bool:
    """Returns True if the text is a number of at most 15 digits, which a float represents exactly."""
    return text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS


def _check_time(stamp: str, not_before: datetime) -> None:
    try:
        at = datetime.fromisoformat(stamp)
    except ValueError:
        return  # not every writer follows ISO 8601
    tolerance = CLOCK_TOLERANCE if at.tzinfo else ZONE_TOLERANCE
    _check_not_older((at if at.tzinfo else at.replace(tzinfo=UTC)), not_before, tolerance)


def _check_not_older(at: datetime, not_before: datetime, tolerance: timedelta) -> None:
    if at < not_before - tolerance:
        raise Unreadable(f"was written at {at.isoformat()}, before its step began: it comes from elsewhere")


def _cobertura(data: bytes, not_before: datetime) -> LineCount:
    root = _xml(data)
    if root.tag != "coverage":
        raise Unreadable(f"is neither Cobertura nor LCOV: its root is <{root.tag}>")
    for element in root.iter():
        rate = element.get("line-rate")
        if rate is not None and not _is_finite(rate):
            raise Unreadable(f'says line-rate="{rate[:40]}", which is not a number')
    stamp = root.get("timestamp", "")
    if _is_count(stamp) and 0 < int(stamp) < 10**14:
        seconds = int(stamp) / 1000 if int(stamp) > 10**11 else float(stamp)  # some writers give seconds
        # Whole seconds are up to one second behind.
        _check_not_older(datetime.fromtimestamp(seconds, UTC), not_before, CLOCK_TOLERANCE)
    hits: dict[tuple[str, int], int] = {}
    for number, owner in enumerate(root.iter("class")):
        file = owner.get("filename") or f"class {number}"
        for line in owner.iterfind("lines/line"):
            key = (file, _count(line, "number"))
            hits[key] = max(hits.get(key, 0), _count(line, "hits"))
    roots = [source.text.strip() for source in root.iterfind("sources/source") if source.text]
    return LineCount(hits, tuple(roots[:MOST_ROOTS]))


def _lcov(data: bytes) -> dict[tuple[str, int], int]:
    hits: dict[tuple[str, int], int] = {}
    file = None
    try:
        for text in data.decode().splitlines():
            if text.startswith("SF:"):
                if file is not None:
                    raise Unreadable(f"is cut off: the record of {file} has no end")
                file = text[3:]
            elif text.startswith("DA:"):
                number, count = (_number(part) for part in text[3:].split(",")[:2])
                if file is None or count < 0:
                    raise Unreadable("has a line count that belongs to no file, or is negative")
                hits[file, number] = max(hits.get((file, number), 0), count)
            elif text == "end_of_record":
                file = None
    except (ValueError, UnicodeDecodeError) as error:
        if isinstance(error, Unreadable):
            raise
        raise Unreadable("is neither Cobertura nor LCOV") from error
    if file is not None:
        raise Unreadable(f"is cut off: the record of {file} has no end")
    return hits


def _number(text: str) -> int:
    """Parses an integer of at most 15 digits. Raises ValueError for any other text."""
    if len(text) > MOST_DIGITS:
        raise ValueError("too many digits")
    return int(text)


def _results(run: Any, mask: Callable[[str], str]) -> Iterator[tuple[int, Finding]]:
    if any(call.get("executionSuccessful") is False for call in run.get("invocations", [])):
        raise Unreadable("says that the tool did not run to its end")
    tool = _shown(run.get("tool", {}).get("driver", {}).get("name", ""))
    for result in run["results"]:
        if result.get("kind", "fail") == "fail" and not result.get("suppressions"):
            physical = (result.get("locations") or [{}])[0].get("physicalLocation", {})
            line = physical.get("region", {}).get("startLine")
            rule = _shown(result.get("ruleId") or result.get("rule", {}).get("id") or "")
            place = Offender(
                file=_shown(physical.get("artifactLocation", {}).get("uri", "?")),
                line=line if isinstance(line, int) and abs(line) < 10**MOST_DIGITS else None,
                message=brief(mask(f"{rule} {_shown(result.get('message', {}).get('text', ''))}")),
            )
            yield SEVERITY.get(result.get("level", "warning"), 1), Finding(f"{tool} {rule}", place)


def _shown(value: Any) -> str:
    """Returns the value as encodable text: lone surrogates, which JSON may hold, are replaced."""
    return str(value).encode(errors="replace").decode()


def _is_finite(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
