"""Caches traffic samples of releases, computed from the proxy's counters, and those that are not stored in Redis
yet.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta

from services.monitor.samples.downsampling import MINUTE_S, Rollup, start_of
from services.monitor.samples.sample import is_of_app
from services.monitor.samples.sample_store import SampleStore
from services.monitor.samples.time_series import RECENT, TimeSeries
from services.monitor.samples.traffic_sample import Counted, ReleaseSample, TrafficSample, counted, traffic_sample
from services.monitor.samples.write_buffer import WriteBuffer
from shared.proxy_models import TrafficView

SAMPLE = timedelta(seconds=1.9)  # readings come every 0.5 or 2 s, a little early or late
GAP = timedelta(seconds=10)  # counters that are further apart give no rate
UNSAVED_MOST = 20_000


class TrafficCache:
    """Holds traffic samples in memory; `flush()` writes them to Redis."""

    def __init__(self, store: SampleStore) -> None:
        self._store = store
        self._before: dict[str, Counted] = {}
        self._series: dict[str, TimeSeries[TrafficSample]] = {}
        self._restored: set[str] = set()
        self._unsaved: WriteBuffer[ReleaseSample] = WriteBuffer(UNSAVED_MOST)
        self._unsaved_rows: WriteBuffer[Rollup] = WriteBuffer(UNSAVED_MOST)

    def record(self, readings: Iterable[TrafficView], now: datetime) -> None:
        """Records the proxy's counters, and computes a sample of each release every 2 s. `readings` holds the counters
        of all apps that were read together. When counters have begun at 0 again (a new `epoch`, as after a restart of
        Envoy or a new release), the first ones give no sample; later ones are compared with them.
        """
        self._before = {release: before for release, before in self._before.items() if now - before.at < GAP}
        for traffic in readings:
            self._record(traffic, now)
        self._roll_up(now)

    def _record(self, traffic: TrafficView, now: datetime) -> None:
        for figures in traffic.tracks.values():
            if release := figures.release:
                after, before = counted(figures, traffic.epoch, now), self._before.get(release)
                if before is None or before.epoch != traffic.epoch:
                    self._before[release] = after
                elif now - before.at >= SAMPLE:
                    self._before[release] = after
                    self._add(release, traffic_sample(before, after))

    def _add(self, release: str, sample: TrafficSample) -> None:
        self._series.setdefault(release, TimeSeries(release)).add(sample)
        self._unsaved.add([ReleaseSample(release=release, sample=sample)])

    def _roll_up(self, now: datetime) -> None:
        for release, series in list(self._series.items()):
            self._unsaved_rows.add(series.due(now))
            if series.empty:
                del self._series[release]

    def forget(self, app: str) -> None:
        """Drops samples of the app's releases that are not stored yet."""
        self._before = {release: before for release, before in self._before.items() if not is_of_app(release, app)}
        self._series = {release: series for release, series in self._series.items() if not is_of_app(release, app)}
        self._unsaved.discard(lambda item: is_of_app(item.release, app))
        self._unsaved_rows.discard(lambda row: is_of_app(row.of, app))

    async def flush(self) -> None:
        """Stores samples and rows (aggregates of a minute) that are not stored yet. Raises RedisError if Redis does not
        answer, and then keeps them for the next call.
        """
        for release in self._series.keys() - self._restored:
            await self._restore(release)
        self._restored &= self._series.keys()
        await self._unsaved.flush(self._store.add_traffic)
        await self._unsaved_rows.flush(self._store.add_rollups)

    async def _restore(self, release: str) -> None:
        """Restores the release's samples of an earlier process, so that the row of the present minute becomes
        complete.
        """
        now = self._series[release].last_at
        older = await self._store.traffic(release, start_of(now - RECENT, MINUTE_S), now)
        if release in self._series:
            self._series[release].restore(older)
        self._restored.add(release)
