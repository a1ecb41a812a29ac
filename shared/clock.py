"""Time as it crosses a border: aware, UTC."""

from datetime import UTC, datetime


def now() -> datetime:
    """This moment, UTC, aware; serialised as RFC 3339."""
    return datetime.now(UTC)
