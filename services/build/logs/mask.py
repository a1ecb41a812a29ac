"""Hides secrets in printed text. Pure."""

import re
from collections.abc import Collection, Iterable, Iterator

HIDDEN = "***"
SHORTEST = 4
FEW = 40


class Mask:
    """Replaces each of the texts `hidden` by `***`, also where they overlap. Each has at least 4 characters and no line
    feed. Up to 40 texts are searched one after the other. For more, a regular expression finds the first 4 characters
    of any of them, and only there the full texts are compared.
    """

    def __init__(self, hidden: Iterable[str] = ()) -> None:
        self._hidden: dict[str, list[str]] = {}
        distinct = set(hidden)
        self._few = distinct if len(distinct) <= FEW else set()
        for each in sorted(distinct, key=lambda text: (-len(text), text)):
            self._hidden.setdefault(each[:SHORTEST], []).append(each)
        self._beginning = re.compile(_any_of(self._hidden)) if self._hidden else None
        self.longest = max((len(texts[0]) for texts in self._hidden.values()), default=0)

    def __call__(self, text: str) -> str:
        kept, done = [], 0
        for start, end in self._places(text):
            kept += [text[done:start], HIDDEN]
            done = end
        return "".join([*kept, text[done:]]) if kept else text

    def cut(self, text: str) -> int:
        """Returns the last position at which `text`, which is to be continued, may be cut without cutting through a
        hidden text, even if only the beginning of that has arrived.
        """
        last = max(0, len(text) - self.longest)
        return next((end for start, end in self._places(text) if start < last < end), last)

    def _places(self, text: str) -> list[tuple[int, int]]:
        """Returns start and end of each occurrence of a hidden text, in order, with overlapping ones merged."""
        places: list[tuple[int, int]] = []
        for start, end in sorted(self._one_by_one(text)) if self._few else self._by_beginning(text):
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
        """Yields start and end of hidden texts, in order; of those with the same start only the longest."""
        at = 0
        while self._beginning and (match := self._beginning.search(text, at)):
            start = match.start()
            at = start + 1
            if found := next((each for each in self._hidden[match[0]] if text.startswith(each, start)), None):
                yield start, start + len(found)


def _any_of(texts: Collection[str]) -> str:
    """Returns a regular expression that matches any of the texts, which have one length. Shared beginnings keep the
    number of its branches small.
    """
    following: dict[str, list[str]] = {}
    for text in texts:
        following.setdefault(text[0], []).append(text[1:])
    return "|".join(
        re.escape(first) + (f"(?:{_any_of(rests)})" if rests[0] else "") for first, rests in following.items()
    )
