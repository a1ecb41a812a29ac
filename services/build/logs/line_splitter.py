"""Converts the output of a step into lines that are safe for a log and a terminal. Pure."""

import re

from shared.security.mask import Mask

LONGEST = 4000  # characters; git cuts lines for the pusher at 64 KiB
_PLAIN = bytes([9, 10, *range(32, 127)])
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b\n]*(?:\x07|\x1b\\)|[@-Z\\^_])")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class LineSplitter:
    """Splits bytes into lines. It breaks lines at 4000 characters; a carriage return alone ends a line, as in progress
    bars. It drops terminal escapes, replaces other control characters, and applies `mask`, also to a secret that spans
    two pieces. All lines of a piece are processed together, which is ten times as fast as one by one.
    """

    def __init__(self, mask: Mask | None = None) -> None:
        self._rest = b""
        self._mask = mask or Mask()

    def feed(self, data: bytes) -> list[str]:
        whole, end, self._rest = (self._rest + data).rpartition(b"\n")
        lines = self._lines(whole) if end else []
        if len(self._rest) > LONGEST + self._mask.longest:
            text = self._rest.decode(errors="surrogateescape")
            if at := self._mask.cut(text):
                lines += self._lines(text[:at].encode(errors="surrogateescape"))
                self._rest = text[at:].encode(errors="surrogateescape")
        return lines

    def end(self) -> list[str]:
        """Returns the unfinished last line, if there is one."""
        rest, self._rest = self._rest, b""
        return self._lines(rest) if rest else []

    def _lines(self, data: bytes) -> list[str]:
        """Returns the lines of `data`, cleaned, masked and broken at 4000 characters."""
        text = data.decode(errors="replace")
        if data.translate(None, _PLAIN):
            if "\r" in text:
                text = "\n".join(line.rstrip("\r") for line in text.split("\n")).replace("\r", "\n")
            text = cleaned(text)
        lines = self._mask(text).split("\n")
        if max(map(len, lines)) <= LONGEST:
            return lines
        return [part for line in lines for part in _broken(line)]


def cleaned(text: str) -> str:
    """Returns the text without terminal escapes, and with control characters replaced, except tabs and line feeds."""
    return _CONTROLS.sub("�", _ESCAPES.sub("", text))


def _broken(line: str) -> list[str]:
    return [line[start : start + LONGEST] for start in range(0, len(line), LONGEST)] or [""]
