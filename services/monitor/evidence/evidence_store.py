"""Stores in Redis what canary analyses found: records of rollouts, and points for charts."""

import logging
from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import ValidationError
from redis.asyncio import Redis

from services.monitor.evidence.analysis_record import AnalysisRecord
from services.monitor.evidence.series import SeriesPoint, packed, unpacked
from shared.events import append
from shared.models import Event

log = logging.getLogger(__name__)

KEPT_S = 30 * 86_400
OF_AN_APP_MOST = 100


class EvidenceStore:
    """Stores for each release `monitor:evidence:<release>` (a string: AnalysisRecord) and
    `monitor:evidence-series:<release>` (a sorted set of points for charts, by time), both for 30 days after the last
    write. The sorted set `monitor:evidence-of:<app>` holds the app's releases by the time of their rollout; the newest
    100 stay. Every method raises `redis.RedisError` if Redis is unreachable; writes are idempotent.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def read(self, release: str) -> tuple[AnalysisRecord, list[SeriesPoint]] | None:
        """Returns the record of the release's canary analysis and its points for charts, oldest first; None if there is
        none. What cannot be parsed is logged and left out.
        """
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.get(_record(release))
            pipe.zrange(_series(release), 0, -1)
            text, points = await pipe.execute()
        if text is None:
            return None
        try:
            return AnalysisRecord.model_validate_json(text), list(_readable(release, points))
        except ValidationError as error:
            log.error("the stored analysis of %s cannot be read and is left out: %s", release, error)
            return None

    async def write(
        self,
        record: AnalysisRecord,
        points: Sequence[SeriesPoint] = (),
        *,
        whole_series: bool = False,
        event: Event | None = None,
    ) -> None:
        """Stores the record, and adds points to its series; with `whole_series`, these replace all earlier ones. An
        event is appended in the same transaction.
        """
        index, release = _index(record.app), record.release
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.set(_record(release), record.model_dump_json(), ex=KEPT_S)
            if whole_series:
                pipe.delete(_series(release))
            if points:
                pipe.zadd(_series(release), {packed(point): point.at_s for point in points})
            pipe.expire(_series(release), KEPT_S)
            pipe.zadd(index, {release: record.opened_at.timestamp()})
            pipe.expire(index, KEPT_S)
            if event is not None:
                append(pipe, event)
            await pipe.execute()

    async def trim(self, app: str) -> None:
        """Deletes the analyses of the app except for the newest 100."""
        oldest: Any = await self._redis.zrange(_index(app), 0, -OF_AN_APP_MOST - 1)
        await self._delete(app, oldest)

    async def forget(self, app: str) -> None:
        """Deletes all analyses of the app."""
        releases: Any = await self._redis.zrange(_index(app), 0, -1)
        await self._delete(app, releases)
        await self._redis.delete(_index(app))

    async def _delete(self, app: str, releases: Sequence[str]) -> None:
        if releases:
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.delete(*map(_record, releases), *map(_series, releases))
                pipe.zrem(_index(app), *releases)
                await pipe.execute()


def _readable(release: str, texts: Iterable[str]) -> Iterable[SeriesPoint]:
    for text in texts:
        try:
            yield unpacked(text)
        except (ValueError, TypeError) as error:
            log.error("a stored point of %s cannot be read and is left out: %s", release, error)


def _record(release: str) -> str:
    return f"monitor:evidence:{release}"


def _series(release: str) -> str:
    return f"monitor:evidence-series:{release}"


def _index(app: str) -> str:
    return f"monitor:evidence-of:{app}"
