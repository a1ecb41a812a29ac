"""Reads one test case of a JUnit report for the build's pages. Pure."""

import math
from dataclasses import dataclass
from typing import Literal
from xml.etree.ElementTree import Element

MESSAGE_CHARACTERS = 2_000
OUTPUT_CHARACTERS = 20_000
# Attribute values that some writers use instead of a child element: googletest, CTest, Catch2, node and others.
FAILED = frozenset({"failed", "failure", "fail", "error", "errored", "broken", "timedout", "crashed"})
SKIPPED = frozenset({"skipped", "skip", "notrun", "disabled", "suppressed", "ignored", "pending", "inconclusive"})

Outcome = Literal["passed", "failed", "skipped"]


@dataclass(frozen=True)
class Case:
    """Holds one test case for the build's pages."""

    id: str
    outcome: Outcome
    seconds: float | None = None
    message: str = ""
    output: str = ""
    """Failure text and printed output of a failed test; else empty."""


def outcome_of(element: Element) -> Outcome:
    """Returns the outcome of a `<testcase>`: the worst one that its child elements, or its attributes `status` and
    `result`, name.
    """
    tags = {child.tag for child in element}
    said = {element.get(name, "").strip().lower() for name in ("status", "result")}
    if tags & {"failure", "error"} or said & FAILED:
        return "failed"
    return "skipped" if "skipped" in tags or said & SKIPPED else "passed"


def read_case(element: Element, id: str) -> Case:
    """Returns the test case of a `<testcase>` element in which secrets are already masked. `id` is its test id."""
    outcome = outcome_of(element)
    reasons = [child for child in element if child.tag in ("failure", "error", "skipped")]
    message = next((text for child in reasons if (text := child.get("message") or (child.text or "").strip())), "")
    output = ""
    if outcome == "failed":
        parts = [child.text.strip() for child in reasons if child.text and child.text.strip()]
        for child in element:
            if child.tag in ("system-out", "system-err") and child.text and child.text.strip():
                parts.append(f"--- {child.tag.removeprefix('system-')}\n{child.text.strip()}")
        output = _cut("\n\n".join(parts), OUTPUT_CHARACTERS)
    return Case(
        id or "a test without a name",
        outcome,
        _seconds(element.get("time", "")),
        _cut(message, MESSAGE_CHARACTERS),
        output,
    )


def _seconds(text: str) -> float | None:
    try:
        seconds = float(text.replace(",", ""))
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None


def _cut(text: str, most: int) -> str:
    """Returns the text. If it has more than `most` characters, its middle is left out, because the cause of a failure
    is mostly at the beginning or the end.
    """
    if len(text) <= most:
        return text
    half = most // 2
    return f"{text[:half]}\n… {len(text) - most} characters are left out …\n{text[-half:]}"
