"""The clock of a process goes on evenly when the machine's is set, and tells that it was."""

from datetime import UTC, datetime, timedelta

import pytest
from pydantic import BaseModel

from shared.clock import Clock, lasts, none_ahead

AT = datetime(2026, 11, 29, 12, tzinfo=UTC)
HOUR, YEAR = timedelta(hours=1), timedelta(days=365)


class Machine:
    def __init__(self) -> None:
        self.set_by = timedelta()
        self.seconds = 1000.0

    def wall(self) -> datetime:
        return AT + timedelta(seconds=self.seconds - 1000) + self.set_by

    def steady(self) -> float:
        return self.seconds


@pytest.mark.parametrize("step", [HOUR, -HOUR, YEAR, -YEAR])
def test_a_clock_that_is_set_changes_no_duration_and_is_told(step: timedelta) -> None:
    machine = Machine()
    clock = Clock(machine.wall, machine.steady)
    assert (clock.now(), clock.step_s()) == (AT, 0.0)
    machine.set_by = step
    machine.seconds += 5
    assert clock.now() == AT + timedelta(seconds=5)
    assert clock.step_s() == step.total_seconds()
    machine.seconds += 5
    assert clock.now() == AT + timedelta(seconds=10)
    assert Clock(machine.wall, machine.steady).now() == AT + timedelta(seconds=10) + step, "the next process follows it"


def test_a_small_correction_is_followed() -> None:
    machine = Machine()
    clock = Clock(machine.wall, machine.steady)
    for _ in range(5):
        machine.set_by -= timedelta(seconds=20)
        assert (clock.now(), clock.step_s()) == (machine.wall(), 0.0)


@pytest.mark.parametrize(("since_s", "is_lasting"), [(0, True), (29, True), (30, False), (-1, False), (-3600, False)])
def test_a_time_ahead_is_of_before_the_clock_was_set_back(since_s: float, is_lasting: bool) -> None:
    assert lasts(AT - timedelta(seconds=since_s), 30, AT) == is_lasting


def test_times_ahead_become_now() -> None:
    class Kept(BaseModel):
        name: str
        begun_at: datetime
        ended_at: datetime | None = None

    kept = Kept(name="notes", begun_at=AT - HOUR)
    assert none_ahead(kept, AT) is kept
    ahead = Kept(name="notes", begun_at=AT + YEAR, ended_at=AT - HOUR)
    assert none_ahead(ahead, AT) == Kept(name="notes", begun_at=AT, ended_at=AT - HOUR)
