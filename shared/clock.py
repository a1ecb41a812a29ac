"""Gives the current time as an aware datetime in UTC, notices when the machine's clock is set, and reads the times in
requests.
"""

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, TypeVar

from pydantic import AwareDatetime, BaseModel, BeforeValidator, Strict

MOST_S = 30.0
Model = TypeVar("Model", bound=BaseModel)
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}[Tt ]")


def _utc() -> datetime:
    return datetime.now(UTC)


def _rfc3339(value: Any) -> Any:
    if not isinstance(value, datetime) and not (isinstance(value, str) and _DATE.match(value)):
        raise ValueError("write the time as RFC 3339 does, 2026-01-31T00:00:00Z")
    return value


Time = Annotated[AwareDatetime, Strict(False), BeforeValidator(_rfc3339)]
"""Time in a request, as RFC 3339 writes it; pydantic itself would also take a number of seconds since 1970."""


class Clock:
    """Gives the time for one process. While the process runs, this time does not follow a machine's clock that is set
    by more than 30 s: all durations, such as time-outs, would be wrong by as much. `step_s` returns by how much the
    clock was set, so that the service ends and is started again, as after any absence of that length.
    """

    def __init__(self, wall: Callable[[], datetime] = _utc, steady: Callable[[], float] = time.monotonic) -> None:
        self._wall = wall
        self._steady = steady
        self._last = wall(), steady()

    def now(self) -> datetime:
        """Returns the current time, timezone-aware, in UTC; pydantic serialises it as RFC 3339."""
        wall, expected = self._read()
        return expected if _is_step(wall - expected) else wall

    def step_s(self) -> float:
        """Returns the seconds by which the machine's clock was set forward (negative: back), if they are more than 30;
        else 0.
        """
        wall, expected = self._read()
        return (wall - expected).total_seconds() if _is_step(wall - expected) else 0.0

    def _read(self) -> tuple[datetime, datetime]:
        """Returns the time of the machine's clock, and the time that it should show: that of its last reading plus the
        monotonic seconds since.
        """
        wall, steady = self._wall(), self._steady()
        expected = self._last[0] + timedelta(seconds=steady - self._last[1])
        if not _is_step(wall - expected):
            self._last = wall, steady
        return wall, expected


def lasts(since: datetime, seconds: float, now: datetime) -> bool:
    """Returns True while less than `seconds` have passed since `since`. A `since` that is later than `now` was stored
    before the clock was set back, and counts as long ago.
    """
    return timedelta() <= now - since < timedelta(seconds=seconds)


def none_ahead(model: Model, now: datetime) -> Model:
    """Returns the model with each of its times that is later than `now` set to `now`: such a time was stored before the
    clock was set back, and would be waited for too long. The model must have no times that are meant to be in the
    future.
    """
    ahead = {name: now for name, value in model if isinstance(value, datetime) and value > now}
    return model.model_copy(update=ahead) if ahead else model


def _is_step(difference: timedelta) -> bool:
    return abs(difference.total_seconds()) > MOST_S


clock = Clock()  # one for the process: its parts must not differ about the time
now = clock.now
