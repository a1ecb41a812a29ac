"""Stores samples and rows (aggregates of a minute) in Redis."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, TypeVar

from redis.asyncio import Redis

from services.monitor.samples.downsampling import Rollup, highest, hour_of, hours, packed, replaced, unpacked
from services.monitor.samples.sample import Sample, Watched, is_of_app
from services.monitor.samples.traffic_sample import ReleaseSample, TrafficSample

SAMPLES_KEPT = 1800  # one hour, with a sample every 2 s
SAMPLES_TTL_S = 3600
ROLLUPS_TTL_S = 24 * 3600  # after the last row of the hour
BATCH = 200  # samples in one call, which blocks Redis for about a millisecond
Item = TypeVar("Item")

# One call stores many samples, because reading the answers would take most of the time. Redis refuses an id that
# is not above the last one: then an earlier try has stored the sample, but its answer was lost.
_APPEND = """
for place, stream in ipairs(KEYS) do
  local id, sample = ARGV[2 * place + 1], ARGV[2 * place + 2]
  local added = redis.pcall('XADD', stream, 'MAXLEN', '~', ARGV[2], id, 'sample', sample)
  if type(added) == 'table' and added.err and not string.find(added.err, 'equal or smaller', 1, true) then
    return added
  end
  redis.call('EXPIRE', stream, ARGV[1])
end
"""
_PUT = "for place, key in ipairs(KEYS) do redis.call('SET', key, ARGV[place + 1], 'EX', ARGV[1]) end"


class SampleStore:
    """Keeps samples for an hour, and rows (aggregates of one minute) for 24 h, under these keys:

    `monitor:samples:<instance>`, `monitor:traffic:<release>`: streams of Sample and TrafficSample; entry ids are sample
    times.
    `monitor:instance:<instance>`: the instance with its last sample.
    `monitor:rollups:<instance or release>:<hour since 1970>`: the rows of one hour, as compressed JSON.

    Every method raises `redis.RedisError` when Redis is out of reach. Writes are idempotent and may be repeated.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._append_all: Any = redis.register_script(_APPEND)
        self._put: Any = redis.register_script(_PUT)

    async def add(self, batch: Sequence[Watched]) -> None:
        """Stores samples with their instances. `batch` must be ordered oldest first."""
        await self._append([(_samples(item.id), item.sample) for item in batch])
        latest = list({item.id: item for item in batch}.values())
        for some in _batches(latest):
            keys = [f"monitor:instance:{item.id}" for item in some]
            await self._put(keys, [SAMPLES_TTL_S, *(item.model_dump_json() for item in some)])

    async def add_traffic(self, batch: Sequence[ReleaseSample]) -> None:
        """Stores traffic samples of releases. `batch` must be ordered oldest first."""
        await self._append([(_traffic(item.release), item.sample) for item in batch])

    async def _append(self, samples: Sequence[tuple[str, Sample | TrafficSample]]) -> None:
        for some in _batches(samples):
            fields = [field for _, sample in some for field in (f"{_ms(sample.at)}-1", sample.model_dump_json())]
            await self._append_all([stream for stream, _ in some], [SAMPLES_TTL_S, SAMPLES_KEPT, *fields])

    async def add_rollups(self, batch: Sequence[Rollup]) -> None:
        """Stores rows, each of which aggregates one minute. A row replaces the stored one of the same minute. There
        must be only one writer.
        """
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
        """Returns every instance that has given a sample within the last hour, last started first. It scans all keys of
        Redis, so it should be called only once.
        """
        keys = [key async for key in self._redis.scan_iter("monitor:instance:*", count=500)]
        values = await self._redis.mget(keys) if keys else []
        found = [Watched.model_validate_json(value) for value in values if value]
        return sorted(found, key=lambda item: (item.started_at, item.id), reverse=True)

    async def samples(self, instance: str, since: datetime, until: datetime) -> list[Sample]:
        """Returns the instance's samples from `since` to `until`, oldest first, both ends included."""
        return [Sample.model_validate_json(text) for text in await self._read(_samples(instance), since, until)]

    async def traffic(self, release: str, since: datetime, until: datetime) -> list[TrafficSample]:
        """Returns the release's traffic samples from `since` to `until`, oldest first, both ends included."""
        return [TrafficSample.model_validate_json(text) for text in await self._read(_traffic(release), since, until)]

    async def rollups(self, of: str, since: datetime, until: datetime) -> list[Rollup]:
        """Returns the rows (aggregates of a minute) of the instance or release that begin from `since` to `until`,
        oldest first, both ends included.
        """
        texts: Any = await self._redis.mget([_rollups(of, hour) for hour in hours(since, until)])
        return [row for text in texts for row in unpacked(of, text) if since <= row.at <= until]

    async def highest(self, names: Sequence[str], since: datetime, until: datetime) -> dict[str, dict[str, float]]:
        """Returns id → figure → its highest value from `since` to `until`, for the instances or releases `names`, with
        one command of Redis. One without rows has an empty mapping.
        """
        span = hours(since, until)
        keys = [_rollups(of, hour) for of in names for hour in span]
        texts: Any = iter(await self._redis.mget(keys) if keys else [])
        return {of: highest(islice(texts, len(span)), since, until) for of in names}

    async def knows(self, of: str, now: datetime) -> bool:
        """Returns True if the store has samples of the instance or release `of`, or rows of the last 24 h."""
        chunks = [_rollups(of, hour) for hour in hours(now - timedelta(seconds=ROLLUPS_TTL_S), now)]
        return bool(await self._redis.exists(_samples(of), _traffic(of), *chunks))

    async def forget(self, app: str) -> None:
        """Deletes everything that is stored of the app's instances and releases. It scans all keys of Redis."""
        for noun in ("samples", "instance", "traffic", "rollups"):
            async for key in self._redis.scan_iter(f"monitor:{noun}:{app}-r*", count=500):
                if is_of_app(str(key).split(":")[2], app):
                    await self._redis.delete(key)

    async def _read(self, stream: str, since: datetime, until: datetime) -> list[str]:
        entries: Any = await self._redis.xrange(stream, min=str(_ms(since)), max=str(_ms(until)))
        return [fields["sample"] for _, fields in entries]


def _batches(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    for start in range(0, len(items), BATCH):
        yield items[start : start + BATCH]


def _samples(instance: str) -> str:
    return f"monitor:samples:{instance}"


def _traffic(release: str) -> str:
    return f"monitor:traffic:{release}"


def _rollups(of: str, hour: int) -> str:
    return f"monitor:rollups:{of}:{hour}"


def _ms(at: datetime) -> int:
    return int(at.timestamp() * 1000)
