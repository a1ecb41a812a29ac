"""Defines what gates judge: measures, findings of tools, and places in files. Pure."""

import hashlib
from dataclasses import dataclass, replace

from services.build.logs.line_splitter import cleaned
from shared.models import View

MESSAGE_CHARACTERS = 200


class Offender(View):
    """Names a place in the repository that contributes to a gate's figure. `file` and `line` are null if unknown."""

    file: str | None = None
    line: int | None = None
    message: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.file and self.line is not None else self.file or ""
        return f"{place} {self.message}".strip()


@dataclass(frozen=True)
class Finding:
    """Holds one finding of a tool: its rule, and its place in the commit."""

    rule: str
    """Name of the tool, a space, and its rule."""
    offender: Offender
    text: str = ""
    """Text of the line; empty until `with_text` has set it."""
    figure: float = 1
    """Value that the finding adds to the gate's figure: a function's complexity or length; 1 for any other finding."""
    is_nameless: bool = False
    """True if the report gives neither rule nor message, so that the finding cannot be distinguished from another one
    in its line.
    """

    @property
    def fingerprint(self) -> str:
        """Returns an id of the finding, made from rule, file and text of the line. It stays the same when the line
        moves.
        """
        parts = (self.rule, self.offender.file or "", " ".join(self.text.split()))
        return hashlib.sha256("\0".join(parts).encode(errors="surrogateescape")).hexdigest()[:16]

    def with_text(self, lines: list[str]) -> "Finding":
        """Returns the finding with the text of its line. `lines` holds all lines of its file. Returns it unchanged if
        the line does not exist.
        """
        line = self.offender.line
        return replace(self, text=lines[line - 1]) if line is not None and 0 < line <= len(lines) else self


@dataclass(frozen=True)
class Measure:
    """Holds the figure that a gate judges, and the places and findings that it comes from."""

    figure: float | None
    """Value that the gate judges; None if it could not be determined."""
    reason: str = ""
    """Reason why there is no figure; if there is one, a remark on it."""
    offenders: tuple[Offender, ...] = ()
    """Places that contribute to the figure, worst first."""
    findings: tuple[Finding, ...] = ()
    """Findings that later builds compare their own with."""
    rest: float = 0
    """Largest value among functions that are no finding, for the gates `complexity` and `function_length`; else 0."""
    left_out: tuple[str, ...] = ()
    """Files of the commit that the figure does not count, each with the rule or setting because of which it does."""


def brief(text: str) -> str:
    """Returns the text on one line, without control characters, cut to 200 characters."""
    line = cleaned(" ".join(text.split()))
    return line if len(line) <= MESSAGE_CHARACTERS else f"{line[: MESSAGE_CHARACTERS - 1]}…"
