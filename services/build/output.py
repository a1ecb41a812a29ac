"""Makes lines that a log and a terminal can hold out of whatever a step prints. Pure."""

import re

from services.build.mask import Mask

LONGEST = 4000  # characters; git cuts remote lines at 64 KiB
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\^_])")
_CONTROLS = {code: "�" for code in [*range(32), *range(127, 160)] if code != 9}


class LineSplitter:
    """Bytes in, whole lines out. A line longer than 4000 characters is broken; a lone carriage return ends a line, as
    progress bars write them. Terminal escapes are dropped, other control characters are replaced. What `mask` hides is
    hidden wherever the bytes, or a long line, are cut."""

    def __init__(self, mask: Mask | None = None) -> None:
        self._rest = b""
        self._mask = mask or Mask()

    def feed(self, data: bytes) -> list[str]:
        *whole, self._rest = (self._rest + data).replace(b"\r\n", b"\n").split(b"\n")
        if len(self._rest) > LONGEST + self._mask.longest:
            text = self._rest.decode(errors="surrogateescape")
            if at := self._mask.cut(text):
                whole.append(text[:at].encode(errors="surrogateescape"))
                self._rest = text[at:].encode(errors="surrogateescape")
        return [line for raw in whole for line in self._lines(raw)]

    def end(self) -> list[str]:
        """The last line, if it had no end."""
        rest, self._rest = self._rest, b""
        return self._lines(rest) if rest else []

    def _lines(self, raw: bytes) -> list[str]:
        lines = []
        for part in raw.decode(errors="replace").rstrip("\r").split("\r"):
            text = self._mask(cleaned(part))
            lines += [text[start : start + LONGEST] for start in range(0, len(text), LONGEST)] or [""]
        return lines


def cleaned(line: str) -> str:
    """Without terminal escapes, other control characters replaced."""
    return _ESCAPES.sub("", line).translate(_CONTROLS)
