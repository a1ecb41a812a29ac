"""Holds the samples of one instance or release of the last minutes, and downsamples each completed minute. Pure."""

from bisect import bisect_left
from collections import deque
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Generic

from services.monitor.samples.downsampling import MINUTE_S, Measured, Rollup, rolled, start_of

RECENT = timedelta(minutes=5)


class TimeSeries(Generic[Measured]):
    """Holds samples of the instance or release `of`, oldest first. A time without samples stays a gap."""

    def __init__(self, of: str) -> None:
        self._of = of
        self._samples: deque[Measured] = deque()
        self._rolled_to: datetime | None = None

    def add(self, sample: Measured) -> None:
        """Appends a sample, which must be later than all others."""
        self._samples.append(sample)

    def restore(self, older: Iterable[Measured]) -> None:
        """Restores samples that an earlier process has stored, if they are earlier than those of this process."""
        begin = self._samples[0].at if self._samples else None
        self._samples.extendleft(reversed([item for item in older if begin is None or item.at < begin]))

    def recent(self, now: datetime) -> list[Measured]:
        """Returns the samples of the last 5 minutes, oldest first."""
        samples = list(self._samples)
        return samples[bisect_left(samples, now - RECENT, key=lambda sample: sample.at) :]

    def due(self, now: datetime) -> list[Rollup]:
        """Returns rows for the minutes completed since the last call; drops samples older than 5 minutes."""
        ended = start_of(now, MINUTE_S)
        rolled_to = self._rolled_to
        self._rolled_to = ended
        rows = []
        if rolled_to is None or rolled_to < ended:
            over = [item for item in self._samples if item.at < ended and (rolled_to is None or item.at >= rolled_to)]
            rows = rolled(self._of, over, MINUTE_S)
        while self._samples and self._samples[0].at < start_of(now - RECENT, MINUTE_S):
            self._samples.popleft()
        return rows

    @property
    def last_at(self) -> datetime:
        """Returns the time of the last sample; the series must not be empty."""
        return self._samples[-1].at

    @property
    def empty(self) -> bool:
        return not self._samples
