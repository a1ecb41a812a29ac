"""Where samples and their rollups live: the contract, and an implementation in memory."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Protocol

from services.monitor.samples.downsampling import Rollup, replaced
from services.monitor.samples.sample import Sample, Watched
from services.monitor.samples.traffic_sample import ReleaseSample, TrafficSample


class SampleStore(Protocol):
    """Samples for an hour, rows of a minute for 24 h. Every method raises `redis.RedisError` when the store is out of
    reach, and every write may then be repeated: nothing is stored twice.
    """

    async def add(self, batch: Sequence[Watched]) -> None:
        """Samples with their instances, oldest first."""
        ...

    async def add_traffic(self, batch: Sequence[ReleaseSample]) -> None:
        """Samples of releases, oldest first."""
        ...

    async def add_rollups(self, batch: Sequence[Rollup]) -> None:
        """Rows of a minute; one that is there for the same minute is replaced. One writer at a time."""
        ...

    async def instances(self) -> list[Watched]:
        """Every instance that gave a sample within the last hour, last started first."""
        ...

    async def samples(self, instance: str, since: datetime, until: datetime) -> list[Sample]:
        """Oldest first, both ends included."""
        ...

    async def traffic(self, release: str, since: datetime, until: datetime) -> list[TrafficSample]:
        """Oldest first, both ends included."""
        ...

    async def rollups(self, of: str, since: datetime, until: datetime) -> list[Rollup]:
        """Rows of the instance or release that begin in this time, oldest first, both ends included."""
        ...

    async def knows(self, of: str, now: datetime) -> bool:
        """Whether there are samples of the instance or release, or rows of the last 24 h."""
        ...


class MemorySampleStore:
    """For tests; forgets nothing."""

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
    """Last started first."""
    return sorted(items, key=lambda item: (item.started_at, item.id), reverse=True)
