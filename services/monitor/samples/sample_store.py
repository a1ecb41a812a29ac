"""Store of samples and their rollups: the contract, and an implementation in memory."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Protocol

from services.monitor.samples.downsampling import Rollup, replaced
from services.monitor.samples.sample import Sample, Watched
from services.monitor.samples.traffic_sample import ReleaseSample, TrafficSample


class SampleStore(Protocol):
    """Keeps samples for an hour and rows of a minute for 24 h.

    Every method raises `redis.RedisError` when the store is out of reach. Writes are idempotent and may be repeated.
    """

    async def add(self, batch: Sequence[Watched]) -> None:
        """Stores samples with their instances, oldest first."""
        ...

    async def add_traffic(self, batch: Sequence[ReleaseSample]) -> None:
        """Stores samples of releases, oldest first."""
        ...

    async def add_rollups(self, batch: Sequence[Rollup]) -> None:
        """Stores rows of a minute, replacing those of the same minute. One writer at a time."""
        ...

    async def instances(self) -> list[Watched]:
        """Returns every instance that gave a sample within the last hour, last started first."""
        ...

    async def samples(self, instance: str, since: datetime, until: datetime) -> list[Sample]:
        """Returns the instance's samples, oldest first, both ends included."""
        ...

    async def traffic(self, release: str, since: datetime, until: datetime) -> list[TrafficSample]:
        """Returns the release's samples, oldest first, both ends included."""
        ...

    async def rollups(self, of: str, since: datetime, until: datetime) -> list[Rollup]:
        """Returns the rows of the instance or release that begin in this time, oldest first, both ends included."""
        ...

    async def knows(self, of: str, now: datetime) -> bool:
        """Returns whether the store has samples of the instance or release, or rows of the last 24 h."""
        ...


class MemorySampleStore:
    """Implements SampleStore in memory, for tests; never deletes anything."""

    def __init__(self) -> None:
        self._instances: dict[str, Watched] = {}
        self._samples: dict[str, dict[datetime, Sample]] = {}
        self._traffic: dict[str, dict[datetime, TrafficSample]] = {}
        self._rollups: dict[str, list[Rollup]] = {}

    async def add(self, batch: Sequence[Watched]) -> None:
        for item in batch:
            self._instances[item.id] = item
            self._samples.setdefault(item.id, {}).setdefault(item.sample.at, item.sample)

    async def add_traffic(self, batch: Sequence[ReleaseSample]) -> None:
        for item in batch:
            self._traffic.setdefault(item.release, {}).setdefault(item.sample.at, item.sample)

    async def add_rollups(self, batch: Sequence[Rollup]) -> None:
        for row in batch:
            self._rollups[row.of] = replaced(self._rollups.get(row.of, []), [row])

    async def instances(self) -> list[Watched]:
        return by_start(self._instances.values())

    async def samples(self, instance: str, since: datetime, until: datetime) -> list[Sample]:
        kept = self._samples.get(instance, {})
        return [item for at, item in sorted(kept.items()) if since <= at <= until]

    async def traffic(self, release: str, since: datetime, until: datetime) -> list[TrafficSample]:
        kept = self._traffic.get(release, {})
        return [item for at, item in sorted(kept.items()) if since <= at <= until]

    async def rollups(self, of: str, since: datetime, until: datetime) -> list[Rollup]:
        return [row for row in self._rollups.get(of, []) if since <= row.at <= until]

    async def knows(self, of: str, now: datetime) -> bool:
        return any(of in kept for kept in (self._samples, self._traffic, self._rollups))


def by_start(items: Iterable[Watched]) -> list[Watched]:
    """Sorts instances, last started first."""
    return sorted(items, key=lambda item: (item.started_at, item.id), reverse=True)
