"""Says what Redis wrote when it ended. Imports no packages, because `make up` has none."""

import re

LINES = 5
_START = re.compile(r"is starting oO0OoO|Server initialized")
_LEVEL = re.compile(r" # ")
_DAMAGED = re.compile(r"(Bad file format|Unexpected end of file|Unrecoverable error|Unknown aof type).*|check-aof")


def last_words(log: str) -> list[str]:
    """Returns the last lines of Redis' last run in its log: its warnings, or else any."""
    lines = [line for line in log.splitlines() if line.strip()]
    start = max((at for at, line in enumerate(lines) if _START.search(line)), default=0)
    return [line for line in lines[start:] if _LEVEL.search(line)][-LINES:] or lines[start:][-LINES:]


def is_damaged(words: list[str]) -> bool:
    """Returns True if Redis ended because it could not read its append-only file."""
    return any(_DAMAGED.search(line) for line in words)
