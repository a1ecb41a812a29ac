"""Reads the last warnings of Redis (its last words) from its log, for messages that Redis does not answer."""

import re
from pathlib import Path

TAIL = 16_384  # bytes
WARNING = re.compile(r"^\d+:\w (?P<at>.*?)(\.\d+)? # (?P<words>.+)$")
ROUTINE = re.compile(r"overcommit|maximum open files|TCP backlog|is now ready to exit|^User requested shutdown")
DAMAGED = re.compile(r"(Bad file format|Unrecoverable error) reading the append only file|check-aof")
LONGEST = 600


def last_words(log: Path, after: int = 0) -> str:
    """Returns the last two warnings in the log of Redis, with the time of the last one; they say why Redis ended or
    refuses writes. Searches only the log after its first `after` bytes, and ignores warnings that Redis writes at every
    start or end. Returns an empty text if there are none, or if the log is not on this machine.
    """
    try:
        with log.open("rb") as file:
            file.seek(max(after, log.stat().st_size - TAIL))
            return last_words_in(file.read().decode(errors="replace"))
    except OSError:
        return ""


def last_words_in(text: str) -> str:
    """Returns the last two warnings in `text`, a part of the log of Redis, with the time of the last one; ignores
    warnings that Redis writes at every start or end. Returns an empty text if there are none.
    """
    lines = text.splitlines()
    found = [match for line in lines if (match := WARNING.match(line)) and not ROUTINE.search(match["words"])][-2:]
    if not found:
        return ""
    words = list(dict.fromkeys(match["words"] for match in found))
    return f"{' '.join(words)} ({found[-1]['at']})"[:LONGEST]


def is_damaged(words: str) -> bool:
    """Returns True if `words`, the last warnings in the log of Redis, say that Redis ended because it cannot read its
    append-only file.
    """
    return DAMAGED.search(words) is not None
