"""Hides secrets in printed text. Pure."""

import re
import struct
from collections.abc import Collection, Iterable, Iterator

HIDDEN = "***"
SHORTEST = 4
FEW = 40
_ESCAPED = re.compile(r"[^A-Za-z0-9_.~-]")  # characters that some tool escapes
LONGEST_ESCAPED = 1000  # longest text whose escaped forms are found, in characters
LONGEST_ESCAPE = 12  # most characters to which a tool escapes one byte
_SPECIAL = {
    "'": (r"'\\+''", r"'\"'\"'", "&apos;"),  # a shell's quoted text ends, this quote is quoted, and the text goes on
    '"': ("&quot;",),
    "&": ("&amp;",),
    "<": ("&lt;",),
    ">": ("&gt;",),
    " ": (r"\+",),
}


class Mask:
    """Replaces each of the secret texts `hidden` by `***`, also where they overlap. It finds them in the forms in which
    tools print them too: URL-encoded by any language, quoted for a shell, escaped for JSON, HTML or a program, even if
    each character is escaped differently. The texts in `verbatim` are found only unchanged. Each text must have at
    least 4 characters and no line feed. Up to 40 texts are searched one after the other. For more, a regular expression
    finds the first 4 characters of any of them, and only there the full texts are compared.
    """

    def __init__(self, hidden: Iterable[str] = (), verbatim: Iterable[str] = ()) -> None:
        self._hidden: dict[str, list[str]] = {}
        hidden = set(hidden)
        distinct = hidden | set(verbatim)
        self._few = distinct if len(distinct) <= FEW else set()
        for each in sorted(distinct, key=lambda text: (-len(text), text)):
            self._hidden.setdefault(each[:SHORTEST], []).append(each)
        self._beginning = re.compile(_any_of(self._hidden)) if self._hidden else None
        escapable = [text for text in hidden if _ESCAPED.search(text) and len(text) <= LONGEST_ESCAPED]
        self._escaped = [(_longest_run(text), re.compile("".join(map(_as_printed, text)))) for text in escapable]
        self.longest = max(
            [*(len(texts[0]) for texts in self._hidden.values()), *(_longest_print(text) for text in escapable)],
            default=0,
        )

    def __call__(self, text: str) -> str:
        kept, done = [], 0
        for start, end in self._places(text):
            kept += [text[done:start], HIDDEN]
            done = end
        return "".join([*kept, text[done:]]) if kept else text

    def cut(self, text: str) -> int:
        """Returns the last position at which `text`, whose continuation is not known yet, can be cut so that no hidden
        text is cut through, not even one of which only the beginning has arrived.
        """
        last = max(0, len(text) - self.longest)
        return next((end for start, end in self._places(text) if start < last < end), last)

    def _places(self, text: str) -> list[tuple[int, int]]:
        """Returns (start, end) of each occurrence of a hidden text, in order; overlapping ones are merged."""
        places: list[tuple[int, int]] = []
        found = self._one_by_one(text) if self._few else self._by_beginning(text)
        for start, end in sorted([*found, *self._escapes(text)]):
            if places and start < places[-1][1]:
                places[-1] = (places[-1][0], max(end, places[-1][1]))
            else:
                places.append((start, end))
        return places

    def _one_by_one(self, text: str) -> Iterator[tuple[int, int]]:
        for each in self._few:
            start = -1
            while (start := text.find(each, start + 1)) >= 0:
                yield start, start + len(each)

    def _by_beginning(self, text: str) -> Iterator[tuple[int, int]]:
        """Yields (start, end) of hidden texts, in order. Of several with the same start, only the longest is found."""
        at = 0
        while self._beginning and (match := self._beginning.search(text, at)):
            start = match.start()
            at = start + 1
            if found := next((each for each in self._hidden[match[0]] if text.startswith(each, start)), None):
                yield start, start + len(found)

    def _escapes(self, text: str) -> Iterator[tuple[int, int]]:
        """Yields (start, end) of hidden texts of which some characters are escaped."""
        for run, pattern in self._escaped:
            if run in text:  # no tool escapes letters and digits
                yield from (match.span() for match in pattern.finditer(text))


def _is_plain(text: str) -> bool:
    return text.isascii() and text.isalnum()


def _longest_run(text: str) -> str:
    return max(re.findall(r"[A-Za-z0-9]+", text), key=len, default="")


def _longest_print(text: str) -> int:
    return sum(1 if _is_plain(character) else LONGEST_ESCAPE * len(character.encode()) for character in text)


def _as_printed(character: str) -> str:
    """Returns a regular expression for all forms in which tools print the character."""
    if _is_plain(character):
        return character
    data, code = character.encode(errors="surrogateescape"), f"{ord(character):x}"
    utf16 = [f"{unit:04x}" for (unit,) in struct.iter_unpack(">H", character.encode("utf-16-be", "surrogatepass"))]
    ways = [
        "".join(f"%(?i:{byte:02x})" for byte in data),
        "".join(rf"\\{{1,2}}x(?i:{byte:02x})" for byte in data),
        "".join(rf"\\{byte:03o}" for byte in data),
        "".join(rf"\\{{1,2}}u(?i:{unit})" for unit in utf16),
        rf"\\u\{{0*(?i:{code})\}}",
        f"&#(?:0*{ord(character)}|[xX]0*(?i:{code}));",
        *_SPECIAL.get(character, ()),
        rf"\\{{0,3}}{re.escape(character)}",
    ]
    return f"(?:{'|'.join(ways)})"


def _any_of(texts: Collection[str]) -> str:
    """Returns a regular expression that matches any of the texts, all of which have the same length. It shares their
    beginnings, which keeps the number of its branches small.
    """
    following: dict[str, list[str]] = {}
    for text in texts:
        following.setdefault(text[0], []).append(text[1:])
    return "|".join(
        re.escape(first) + (f"(?:{_any_of(rests)})" if rests[0] else "") for first, rests in following.items()
    )
