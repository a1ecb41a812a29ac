"""Stores samples and their rollups in Redis."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from services.monitor.samples.downsampling import Rollup, highest, hour_of, hours, packed, replaced, unpacked
from services.monitor.samples.sample import Sample, Watched
from services.monitor.samples.traffic_sample import ReleaseSample, TrafficSample

SAMPLES_KEPT = 1800  # an hour of one every 2 s
SAMPLES_TTL_S = 3600
ROLLUPS_TTL_S = 24 * 3600  # after the last row of the hour


class SampleStore:
    """Keeps samples for an hour, and rows (aggregates of one minute) for 24 h, under these keys:

    `monitor:samples:<instance>`, `monitor:traffic:<release>`: streams of Sample and TrafficSample; entry ids are sample
    times.
    `monitor:instance:<instance>`: the instance with its last sample.
    `monitor:rollups:<instance or release>:<hour since 1970>`: the rows of one hour, see `downsampling.packed`.

    Every method raises `redis.RedisError` when Redis is out of reach. Writes are idempotent and may be repeated.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def add(self, batch: Sequence[Watched]) -> None:
        """Stores samples with their instances; `batch` is ordered oldest first."""
        latest = {item.id: item for item in batch}
        async with self._redis.pipeline(transaction=False) as pipe:
            for item in batch:
                _append(pipe, _samples(item.id), item.sample)
            for item in latest.values():
                pipe.expire(_samples(item.id), SAMPLES_TTL_S)
                pipe.set(f"monitor:instance:{item.id}", item.model_dump_json(), ex=SAMPLES_TTL_S)
            _raise_first_error(await pipe.execute(raise_on_error=False))

    async def add_traffic(self, batch: Sequence[ReleaseSample]) -> None:
        """Stores samples of releases; `batch` is ordered oldest first."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for item in batch:
                _append(pipe, _traffic(item.release), item.sample)
            for release in {item.release for item in batch}:
                pipe.expire(_traffic(release), SAMPLES_TTL_S)
            _raise_first_error(await pipe.execute(raise_on_error=False))

    async def add_rollups(self, batch: Sequence[Rollup]) -> None:
        """Stores rows of one minute, replacing rows of the same minute. There must be only one writer."""
        if not batch:
            return
        rows: dict[tuple[str, int], list[Rollup]] = {}
        for row in batch:
            rows.setdefault((row.of, hour_of(row.at)), []).append(row)
        texts: Any = await self._redis.mget([_rollups(*key) for key in rows])
        async with self._redis.pipeline(transaction=False) as pipe:
            for ((of, hour), new), text in zip(rows.items(), texts, strict=True):
                pipe.set(_rollups(of, hour), packed(replaced(unpacked(of, text), new)), ex=ROLLUPS_TTL_S)
            await pipe.execute()

    async def instances(self) -> list[Watched]:
        """Returns every instance that gave a sample within the last hour, last started first. It scans all keys of
        Redis, so call it once.
        """
        keys = [key async for key in self._redis.scan_iter("monitor:instance:*", count=500)]
        values = await self._redis.mget(keys) if keys else []
        found = [Watched.model_validate_json(value) for value in values if value]
        return sorted(found, key=lambda item: (item.started_at, item.id), reverse=True)

    async def samples(self, instance: str, since: datetime, until: datetime) -> list[Sample]:
        """Returns the instance's samples, oldest first, both ends included."""
        return [Sample.model_validate_json(text) for text in await self._read(_samples(instance), since, until)]

    async def traffic(self, release: str, since: datetime, until: datetime) -> list[TrafficSample]:
        """Returns the release's samples, oldest first, both ends included."""
        return [TrafficSample.model_validate_json(text) for text in await self._read(_traffic(release), since, until)]

    async def rollups(self, of: str, since: datetime, until: datetime) -> list[Rollup]:
        """Returns the rows of the instance or release that begin in this time, oldest first, both ends included."""
        texts: Any = await self._redis.mget([_rollups(of, hour) for hour in hours(since, until)])
        return [row for text in texts for row in unpacked(of, text) if since <= row.at <= until]

    async def highest(self, names: Sequence[str], since: datetime, until: datetime) -> dict[str, dict[str, float]]:
        """Returns the highest figures of several instances or releases in this time, by one command: id → name of the
        figure → value. One without rows has an empty mapping.
        """
        span = hours(since, until)
        keys = [_rollups(of, hour) for of in names for hour in span]
        texts: Any = iter(await self._redis.mget(keys) if keys else [])
        return {of: highest(islice(texts, len(span)), since, until) for of in names}

    async def knows(self, of: str, now: datetime) -> bool:
        """Returns True if the store has samples of the instance or release `of`, or rows of the last 24 h."""
        chunks = [_rollups(of, hour) for hour in hours(now - timedelta(seconds=ROLLUPS_TTL_S), now)]
        return bool(await self._redis.exists(_samples(of), _traffic(of), *chunks))

    async def _read(self, stream: str, since: datetime, until: datetime) -> list[str]:
        entries: Any = await self._redis.xrange(stream, min=str(_ms(since)), max=str(_ms(until)))
        return [fields["sample"] for _, fields in entries]


def _append(pipe: Any, stream: str, sample: Sample | TrafficSample) -> None:
    fields = {"sample": sample.model_dump_json()}
    pipe.xadd(stream, fields, id=f"{_ms(sample.at)}-1", maxlen=SAMPLES_KEPT, approximate=True)


def _raise_first_error(answers: Iterable[Any]) -> None:
    """Raises the first error, unless it says that a sample is stored already. Redis refuses an id that is not above the
    last one: an earlier try stored the sample, and its answer was lost.
    """
    for answer in answers:
        stored_already = isinstance(answer, ResponseError) and "equal or smaller" in str(answer)
        if isinstance(answer, Exception) and not stored_already:
            raise answer


def _samples(instance: str) -> str:
    return f"monitor:samples:{instance}"


def _traffic(release: str) -> str:
    return f"monitor:traffic:{release}"


def _rollups(of: str, hour: int) -> str:
    return f"monitor:rollups:{of}:{hour}"


def _ms(at: datetime) -> int:
    return int(at.timestamp() * 1000)
