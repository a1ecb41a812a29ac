"""Reports that steps write: JUnit XML, Cobertura XML or LCOV, SARIF. Each is read from bytes, and refused if it is not
whole: `Unreadable` says why. Pure.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from xml.etree.ElementTree import Element

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import ParseError, fromstring
from junitparser import TestCase

CLOCK_TOLERANCE = timedelta(seconds=2)
ZONE_TOLERANCE = timedelta(hours=14)  # a time without a zone may be anybody's local time


class Unreadable(ValueError):
    """The report does not count; says why, for a person."""


@dataclass(frozen=True)
class CaseCount:
    ran: int
    failed: tuple[str, ...]
    failures: int


@dataclass(frozen=True)
class LineCount:
    lines: int
    covered: int


@dataclass(frozen=True)
class Findings:
    places: tuple[str, ...]


def read_junit(data: bytes, not_before: datetime) -> CaseCount:
    """Counts the test cases themselves. A suite that claims more failures than its cases show is believed."""
    root = _xml(data)
    for element in root.iter():
        if stamp := element.get("timestamp"):
            _check_time(stamp, not_before)
    if root.tag not in ("testsuites", "testsuite"):
        raise Unreadable(f"is not JUnit XML: its root is <{root.tag}>")
    case_of: Any = TestCase.fromelem  # untyped
    cases: list[TestCase] = [case_of(element) for element in root.iter("testcase")]
    ran = [case for case in cases if not case.is_skipped]
    if not ran:
        raise Unreadable("holds no test" + (f" that ran ({len(cases)} skipped)" if cases else ""))
    failed = tuple(_case_name(case) for case in ran if not case.is_passed)
    claimed = max(_claimed_failures(element) for element in root.iter() if element.tag in ("testsuites", "testsuite"))
    return CaseCount(ran=len(ran), failed=failed, failures=max(len(failed), claimed))


def read_coverage(data: bytes, not_before: datetime) -> LineCount:
    """Cobertura XML or LCOV, told apart by the first character. Lines are counted; the file's own rate is not used."""
    hits = _cobertura(data, not_before) if data.lstrip()[:1] == b"<" else _lcov(data)
    if not hits:
        raise Unreadable("holds no coverable line")
    return LineCount(lines=len(hits), covered=sum(1 for count in hits.values() if count > 0))


def read_sarif(data: bytes) -> Findings:
    """SARIF 2.1.0: results that are failures and not suppressed."""
    try:
        document: Any = json.loads(data)
        if not str(document["version"]).startswith("2.1") or not document["runs"]:
            raise Unreadable("is not SARIF 2.1 with at least one run")
        return Findings(tuple(place for run in document["runs"] for place in _results(run)))
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


def _case_name(case: TestCase) -> str:
    return "::".join(part for part in (case.classname, case.name) if part) or "a test without a name"


def _claimed_failures(element: Element) -> int:
    return sum(_count(element, name) for name in ("failures", "errors"))


def _count(element: Element, name: str) -> int:
    text = element.get(name, "0").strip()
    if not (text.isascii() and text.isdigit()):
        raise Unreadable(f'says {name}="{text[:40]}", which is not a count')
    return int(text)


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


def _cobertura(data: bytes, not_before: datetime) -> dict[tuple[str, int], int]:
    root = _xml(data)
    if root.tag != "coverage":
        raise Unreadable(f"is neither Cobertura nor LCOV: its root is <{root.tag}>")
    for element in root.iter():
        rate = element.get("line-rate")
        if rate is not None and not _is_finite(rate):
            raise Unreadable(f'says line-rate="{rate[:40]}", which is not a number')
    stamp = root.get("timestamp", "")
    if stamp.isdigit() and 0 < int(stamp) < 10**14:
        seconds = int(stamp) / 1000 if int(stamp) > 10**11 else float(stamp)  # some writers give seconds
        # Whole seconds are up to one second behind.
        _check_not_older(datetime.fromtimestamp(seconds, UTC), not_before, CLOCK_TOLERANCE)
    hits: dict[tuple[str, int], int] = {}
    for number, owner in enumerate(root.iter("class")):
        file = owner.get("filename") or f"class {number}"
        for line in owner.iterfind("lines/line"):
            key = (file, _count(line, "number"))
            hits[key] = max(hits.get(key, 0), _count(line, "hits"))
    return hits


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
                number, count = (int(part) for part in text[3:].split(",")[:2])
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


def _results(run: Any) -> Iterator[str]:
    if any(call.get("executionSuccessful") is False for call in run.get("invocations", [])):
        raise Unreadable("says that the tool did not run to its end")
    for result in run["results"]:
        if result.get("kind", "fail") == "fail" and not result.get("suppressions"):
            physical = (result.get("locations") or [{}])[0].get("physicalLocation", {})
            file = physical.get("artifactLocation", {}).get("uri", "?")
            line = physical.get("region", {}).get("startLine", "?")
            yield f"{file}:{line} {result.get('ruleId', '')}".strip()


def _is_finite(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
