"""Gives the current time as an aware datetime in UTC."""

from datetime import UTC, datetime


def now() -> datetime:
    """Returns the current time, timezone-aware and in UTC."""
    return datetime.now(UTC)
