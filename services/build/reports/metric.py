"""Figures that gates judge, and the places that they are made of. Pure."""

import hashlib
from dataclasses import dataclass, replace

from services.build.logs.line_splitter import cleaned
from shared.models import View

MESSAGE_CHARACTERS = 200


class Offender(View):
    """A place that a figure is made of. `file`: a path in the repository; null where none is told."""

    file: str | None = None
    line: int | None = None
    message: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.file and self.line is not None else self.file or ""
        return f"{place} {self.message}".strip()


@dataclass(frozen=True)
class Finding:
    """`rule`: the tool and its rule. `text`: the line's text, once it is known."""

    rule: str
    offender: Offender
    text: str = ""

    @property
    def fingerprint(self) -> str:
        """Stays the same when the line moves; changes with rule, file or text of the line."""
        parts = (self.rule, self.offender.file or "", " ".join(self.text.split()))
        return hashlib.sha256("\0".join(parts).encode(errors="surrogateescape")).hexdigest()[:16]

    def with_text(self, lines: list[str]) -> "Finding":
        """`lines`: the file's."""
        line = self.offender.line
        return replace(self, text=lines[line - 1]) if line is not None and 0 < line <= len(lines) else self


@dataclass(frozen=True)
class Measure:
    """What a report or tool found. `figure` None: it could not be read, `reason` says why; beside a figure `reason` is
    a remark. `offenders` are worst first; `findings` what counts as new or known."""

    figure: float | None
    reason: str = ""
    offenders: tuple[Offender, ...] = ()
    findings: tuple[Finding, ...] = ()


def brief(text: str) -> str:
    """On one line that no terminal obeys, cut to 200 characters."""
    line = cleaned(" ".join(text.split()))
    return line if len(line) <= MESSAGE_CHARACTERS else f"{line[: MESSAGE_CHARACTERS - 1]}…"
