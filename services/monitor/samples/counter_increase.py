"""Computes the increase of a counter within a period of time. The counter of a new instance continues that of the
instance that it replaces. Pure.
"""

from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass
class _Counter:
    """Holds the last reading of one instance's counter."""

    count: int
    read_at: datetime
    is_replaced: bool = False
    """True if the counter of a newer instance continues this one."""


class CounterIncrease:
    """Adds up the increases of a counter over all instances of one release. The first reading only sets the baseline.
    Increases, and the last counts of instances that have ended, are forgotten after the time `kept`.
    """

    def __init__(self, kept: timedelta) -> None:
        self._kept = kept
        self._counters: dict[str, _Counter] = {}
        self._increases: deque[tuple[datetime, int]] = deque()
        self.begun_at: datetime | None = None
        """Time of the first reading."""
        self.read_at: datetime | None = None

    def record(self, counts: Mapping[str, int], now: datetime, leaving: Collection[str] = ()) -> list[str]:
        """Records instance id → count, for all running instances. `leaving` holds the ids of unhealthy or draining
        ones. Returns the ids of the instances whose counters have increased; for a new instance, the id of the one that
        it replaced.
        """
        first, self.read_at = self.read_at is None, now
        self.begun_at = self.begun_at or now
        staying = counts.keys() - set(leaving)
        sources, increase = [], 0
        for name, count in sorted(counts.items(), key=lambda item: item[1]):
            source, more = self._increase(name, count, staying, first)
            own = self._counters.setdefault(name, _Counter(count, now))
            own.count, own.read_at = count, now
            if more > 0:
                sources.append(source)
                increase += more
        if increase:
            self._increases.append((now, increase))
        while self._increases and self._increases[0][0] <= now - self._kept:
            self._increases.popleft()
        self._counters = {name: own for name, own in self._counters.items() if own.read_at > now - self._kept}
        return sources

    def knows(self, instance: str) -> bool:
        """Returns True if the instance was read within the time `kept`."""
        return instance in self._counters

    def within(self, span: timedelta, now: datetime) -> int:
        """Returns the sum of all increases in the period `span` before `now`. Increases that are older than `kept` are
        missing.
        """
        return sum(increase for at, increase in self._increases if at > now - span)

    def _increase(self, name: str, count: int, staying: Collection[str], first: bool) -> tuple[str, int]:
        if name in self._counters:
            return name, count - self._counters[name].count
        if first or count == 0:
            return name, 0
        predecessor = self._predecessor(count, staying)
        if predecessor is None:
            return name, 1  # the instance started and ended between two readings
        replaced = self._counters[predecessor]
        replaced.is_replaced = True
        return predecessor, count - replaced.count

    def _predecessor(self, count: int, staying: Collection[str]) -> str | None:
        """Returns the id of the instance that a new one with `count` has most likely replaced; None if there is none.
        It prefers an instance that is not in `staying`, and whose count is one lower (after a failure) or the same
        (without one).
        """
        free = {name: own.count for name, own in self._counters.items() if own.count <= count and not own.is_replaced}
        for before in (count - 1, count):
            for name in free:
                if free[name] == before and name not in staying:
                    return name
        lower = [name for name in free if free[name] < count]
        return max(lower, key=lambda name: free[name], default=None)
