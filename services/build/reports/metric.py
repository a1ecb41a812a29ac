"""Defines measures, findings and their places: the figures that gates judge. Pure."""

import hashlib
from dataclasses import dataclass, replace

from services.build.logs.line_splitter import cleaned
from shared.models import View

MESSAGE_CHARACTERS = 200


class Offender(View):
    """Names a place that a figure is made of. `file` is a path in the repository; null if none is known."""

    file: str | None = None
    line: int | None = None
    message: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.file and self.line is not None else self.file or ""
        return f"{place} {self.message}".strip()


@dataclass(frozen=True)
class Finding:
    """Represents one result of a tool."""

    rule: str
    """Name of the tool and its rule."""
    offender: Offender
    text: str = ""
    """Text of the line, once it is known."""

    @property
    def fingerprint(self) -> str:
        """Returns an id that stays the same when the line moves; it changes with rule, file or text of the line."""
        parts = (self.rule, self.offender.file or "", " ".join(self.text.split()))
        return hashlib.sha256("\0".join(parts).encode(errors="surrogateescape")).hexdigest()[:16]

    def with_text(self, lines: list[str]) -> "Finding":
        """Returns the finding with the text of its line; `lines` are those of the file."""
        line = self.offender.line
        return replace(self, text=lines[line - 1]) if line is not None and 0 < line <= len(lines) else self


@dataclass(frozen=True)
class Measure:
    """Holds what a report or tool found."""

    figure: float | None
    """Value that a gate judges; None if it could not be read."""
    reason: str = ""
    """Reason for the missing figure; with a figure, a remark about it."""
    offenders: tuple[Offender, ...] = ()
    """Places that the figure is made of, worst first."""
    findings: tuple[Finding, ...] = ()
    """Findings that are compared with the baseline, to tell new from known ones."""


def brief(text: str) -> str:
    """Returns the text on one line, without terminal escapes, cut to 200 characters."""
    line = cleaned(" ".join(text.split()))
    return line if len(line) <= MESSAGE_CHARACTERS else f"{line[: MESSAGE_CHARACTERS - 1]}…"
