"""Prepares a file of a commit for display: its lines, with coverage and findings. Pure."""

from dataclasses import dataclass, field
from typing import Literal

from services.build.gates.report_record import BuildReport, RecordedFinding

LARGEST_BYTES = 2**20
LINES_SHOWN = 10_000
LINE_CHARACTERS = 2_000


@dataclass(frozen=True)
class SourceLine:
    number: int
    text: str
    mark: Literal["covered", "missed", ""] = ""
    findings: list[RecordedFinding] = field(default_factory=list)


@dataclass(frozen=True)
class FileView:
    """Response body of `GET /builds/{id}/source`: the lines of a file."""

    file: str
    lines: list[SourceLine]
    why_not: str = ""
    """Reason why lines are missing; empty if all lines are shown."""


def source_view(file: str, data: bytes | None, report: BuildReport) -> FileView:
    """Returns the lines of a file with their coverage and findings from `report`. `data` is the file's content; None if
    the file is a link or larger than 1 MiB.
    """
    if data is None:
        return FileView(file, [], "The file is larger than 1 MiB, or a link: it is not shown.")
    if b"\0" in data:
        return FileView(file, [], "The file is binary: it is not shown.")
    marks: dict[int, Literal["covered", "missed"]] = {}
    for each in report.coverage:
        if each.file == file:
            marks.update((line, "covered") for line in each.covered)
            marks.update((line, "missed") for line in each.missed)
    found: dict[int | None, list[RecordedFinding]] = {}
    for place in report.findings:
        if place.file == file:
            found.setdefault(place.line, []).append(place)
    texts = data.decode(errors="replace").removesuffix("\n").split("\n")
    lines = [
        SourceLine(number, text.rstrip("\r")[:LINE_CHARACTERS], marks.get(number, ""), found.get(number, []))
        for number, text in enumerate(texts[:LINES_SHOWN], 1)
    ]
    cut = f"The first {LINES_SHOWN} of {len(texts)} lines." if len(texts) > LINES_SHOWN else ""
    return FileView(file, lines, cut)
