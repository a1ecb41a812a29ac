"""Parses coverage reports, Cobertura XML or LCOV. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from services.build.reports.report_text import (
    CLOCK_TOLERANCE,
    Unreadable,
    check_not_older,
    decoded,
    is_count,
    is_xml,
    runs,
    xml_root,
)

NO_LINE = "holds no coverable line"
MOST_ROOTS = 100  # each root is tried with each file


@dataclass(frozen=True)
class LineCount:
    """Holds how many times each line ran, from a coverage report."""

    hits: Mapping[tuple[str, int], int]
    """(file as the report names it, line) → number of runs."""
    roots: tuple[str, ...] = ()
    """Folders to which the report's file names are relative, as the report declares."""

    @property
    def lines(self) -> int:
        return len(self.hits)

    @property
    def covered(self) -> int:
        return sum(1 for count in self.hits.values() if count > 0)


def read_coverage(data: bytes, not_before: datetime) -> LineCount:
    """Returns the counts in a coverage report, Cobertura XML or LCOV. It counts the lines itself (there may be none)
    and ignores the totals that the report gives. Raises Unreadable if the report cannot be read, or names a time before
    `not_before`.
    """
    return _cobertura(data, not_before) if is_xml(data) else LineCount(_lcov(decoded(data)))


def check_lines(counts: Iterable[LineCount]) -> None:
    """Raises Unreadable if no coverage report of one run of a step has a coverable line."""
    if not any(count.hits for count in counts):
        raise Unreadable(NO_LINE)


def _cobertura(data: bytes, not_before: datetime) -> LineCount:
    root = xml_root(data)
    if root.tag != "coverage":
        raise Unreadable(f"is neither Cobertura nor LCOV: its root is <{root.tag}>")
    stamp = root.get("timestamp", "")
    if is_count(stamp) and 0 < int(stamp) < 10**14:
        seconds = int(stamp) / 1000 if int(stamp) > 10**11 else float(stamp)  # some programs write seconds
        # A time in whole seconds may be up to one second too early.
        check_not_older(datetime.fromtimestamp(seconds, UTC), not_before, CLOCK_TOLERANCE)
    hits: dict[tuple[str, int], int] = {}
    for number, owner in enumerate(root.iter("class")):
        file = owner.get("filename") or f"class {number}"
        for line in owner.iterfind("lines/line"):
            at = line.get("number", "").strip()
            if not is_count(at):
                raise Unreadable(f'says number="{at[:40]}", which is not a line')
            key = (file, int(at))
            hits[key] = max(hits.get(key, 0), runs(line.get("hits", "0").strip(), "hits"))
    roots = [source.text.strip() for source in root.iterfind("sources/source") if source.text]
    return LineCount(hits, tuple(roots[:MOST_ROOTS]))


def _lcov(text: str) -> dict[tuple[str, int], int]:
    hits: dict[tuple[str, int], int] = {}
    file, records = None, 0
    for line in text.splitlines():
        if line.startswith("SF:"):
            if file is not None:
                raise Unreadable(f"is cut off: the record of {file} has no end")
            file, records = line[3:].strip(), records + 1
        elif line.startswith("DA:"):
            number, _, rest = line[3:].partition(",")
            if not is_count(number.strip()) or not rest:
                raise Unreadable("is neither Cobertura nor LCOV")
            if file is None:
                raise Unreadable("has a line count that belongs to no file")
            key = (file, int(number))
            hits[key] = max(hits.get(key, 0), runs(rest.partition(",")[0].strip(), f"DA:{number}"))
        elif line.strip() == "end_of_record":
            file = None
    if file is not None:
        raise Unreadable(f"is cut off: the record of {file} has no end")
    if not records:
        raise Unreadable(NO_LINE)
    return hits
