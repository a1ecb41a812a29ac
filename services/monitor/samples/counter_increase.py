"""Increase of a counter within a span, where a new instance continues the count of the one that it replaces. Pure."""

from collections import deque
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta


class CounterIncrease:
    """Counter increase over all instances of one release. The first reading only sets the baseline."""

    def __init__(self, kept: timedelta) -> None:
        self._kept = kept
        self._known: dict[str, int] = {}
        self._succeeded: set[str] = set()
        self._grown: deque[tuple[datetime, int]] = deque()
        self.looked_at: datetime | None = None

    def look(self, counts: Mapping[str, int], now: datetime, leaving: Collection[str] = ()) -> list[str]:
        """Records the counts of the running instances; `leaving` names those among them that are ill or draining.

        Returns the instances to which an increase is attributed: the instance itself, or the predecessor that it
        replaced.
        """
        first, self.looked_at = self.looked_at is None, now
        staying = counts.keys() - set(leaving)
        culprits, grown = [], 0
        for name, count in sorted(counts.items(), key=lambda item: item[1]):
            culprit, more = self._grew(name, count, staying, first)
            self._known[name] = count
            if more > 0:
                culprits.append(culprit)
                grown += more
        if grown:
            self._grown.append((now, grown))
        while self._grown and self._grown[0][0] <= now - self._kept:
            self._grown.popleft()
        return culprits

    def within(self, span: timedelta, now: datetime) -> int:
        """Returns the increase in the time `span` before `now`, at most as far back as `kept`."""
        return sum(grown for at, grown in self._grown if at > now - span)

    def _grew(self, name: str, count: int, staying: Collection[str], first: bool) -> tuple[str, int]:
        if name in self._known:
            return name, count - self._known[name]
        if first or count == 0:
            return name, 0
        predecessor = self._predecessor(count, staying)
        if predecessor is None:
            return name, 1  # it came and went between two looks
        self._succeeded.add(predecessor)
        return predecessor, count - self._known[predecessor]

    def _predecessor(self, count: int, staying: Collection[str]) -> str | None:
        """Returns the instance that a new one most likely replaced, or None.

        It prefers one that is gone over one that stays; a replacement without a fault has the same count.
        """
        free = [name for name, known in self._known.items() if known <= count and name not in self._succeeded]
        for before in (count - 1, count):
            for name in free:
                if self._known[name] == before and name not in staying:
                    return name
        lower = [name for name in free if self._known[name] < count]
        return max(lower, key=lambda name: self._known[name], default=None)
