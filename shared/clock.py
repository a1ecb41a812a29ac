"""Gives the current time as an aware datetime in UTC."""

from datetime import UTC, datetime


def now() -> datetime:
    """Returns the current time, aware and in UTC; pydantic serialises it as RFC 3339."""
    return datetime.now(UTC)
