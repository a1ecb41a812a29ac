"""Gives the current time as an aware datetime in UTC, and reads the times in requests."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AwareDatetime, BeforeValidator, Strict

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}[Tt ]")


def now() -> datetime:
    """Returns the current time, timezone-aware and in UTC."""
    return datetime.now(UTC)


def _rfc3339(value: Any) -> Any:
    if not isinstance(value, datetime) and not (isinstance(value, str) and _DATE.match(value)):
        raise ValueError("write the time as RFC 3339 does, 2026-01-31T00:00:00Z")
    return value


Time = Annotated[AwareDatetime, Strict(False), BeforeValidator(_rfc3339)]
"""Time in a request, as RFC 3339 writes it; pydantic itself would also take a number of seconds since 1970."""
