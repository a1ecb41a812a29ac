"""Caches samples of instances: the last counters, recent samples, and those that are not stored in Redis yet."""

import asyncio
import contextlib
from collections.abc import Iterable
from datetime import datetime, timedelta

from pydantic import JsonValue

from services.monitor.rules.rule import Reading
from services.monitor.samples.downsampling import MINUTE_S, Rollup, start_of
from services.monitor.samples.restart_history import RESTARTS_IN, RestartHistory, is_at_cap
from services.monitor.samples.sample import Frame, Sample, Watched, is_of_app, sample
from services.monitor.samples.sample_store import SampleStore
from services.monitor.samples.time_series import RECENT, TimeSeries
from services.monitor.samples.write_buffer import WriteBuffer
from shared.models import Environment, InstanceStats
from shared.store import RedisError

UNSAVED_MOST = 20_000  # ten minutes of 60 instances; while Redis is down, older ones are dropped
ABSENCE_KEPT = timedelta(minutes=1)  # rules ask for every instance in the registry every 2 s
LISTED_FOR = timedelta(hours=1)  # after the last sample
FIRST_LOAD_S = 2.0


class SampleCache:
    """Holds samples of instances in memory and writes them to Redis later (write-behind). Only `flush()`, `forget()`
    and the first `load()` wait for Redis; recording and reading figures do not.
    """

    def __init__(self, store: SampleStore) -> None:
        self._store = store
        self.restart_history = RestartHistory()
        self._frames: dict[str, Frame] = {}
        self._latest: dict[str, Sample] = {}
        self._of_release: dict[str, list[str]] = {}
        self._series: dict[str, TimeSeries[Sample]] = {}
        self._listed: dict[str, Watched] = {}
        self._absent: dict[str, tuple[datetime, datetime]] = {}  # instance → absent since, last asked for at
        self._answered_at: datetime | None = None
        self.sampled_at: datetime | None = None
        self._unsaved: WriteBuffer[Watched] = WriteBuffer(UNSAVED_MOST)
        self._unsaved_rows: WriteBuffer[Rollup] = WriteBuffer(UNSAVED_MOST)
        self._loaded = self._tried = False
        self._loading = asyncio.Lock()

    def record(self, items: Iterable[InstanceStats], now: datetime) -> None:
        """Computes and caches a sample of each running instance, from the counters that the deployer listed at
        `now`.
        """
        frames = {stats.id: Frame(now, stats) for stats in items}
        self._latest = {name: sample(self._frames.get(name), frame) for name, frame in frames.items()}
        self._frames = frames
        self._of_release = {}
        for name, frame in frames.items():
            self._of_release.setdefault(frame.stats.release, []).append(name)
        for name, latest in self._latest.items():
            self._series.setdefault(name, TimeSeries(name)).add(latest)
        for series in self._series.values():
            self._unsaved_rows.add(series.due(now))
        self._series = {name: series for name, series in self._series.items() if not series.empty}
        asked_since = now - ABSENCE_KEPT
        self._absent = {name: at for name, at in self._absent.items() if name not in frames and at[1] > asked_since}
        self._answered_at = self.sampled_at = now
        self.restart_history.record([frame.stats for frame in frames.values()], now)
        watched = {name: _watched(frame.stats, self._latest[name]) for name, frame in frames.items()}
        self._listed = {name: item for name, item in self._listed.items() if _is_listed(item, now)} | watched
        self._unsaved.add(watched.values())

    @property
    def answers(self) -> bool:
        """Returns True if the deployer answered when samples were last taken."""
        return self._answered_at is not None

    def stats(self) -> list[InstanceStats]:
        """Returns the counters of the deployer's last answer; empty while it does not answer."""
        return [frame.stats for frame in self._frames.values()] if self.answers else []

    def recent(self, instance_id: str) -> list[Sample]:
        """Returns the instance's samples of the last 5 minutes, oldest first, including those that an earlier process
        stored.
        """
        series = self._series.get(instance_id)
        return series.recent(self.sampled_at) if series and self.sampled_at else []

    async def instances(self, now: datetime) -> list[Watched]:
        """Returns the instances that have given a sample within the last hour, also to an earlier process; last started
        first. Raises RedisError if samples of an earlier process could not be read yet.
        """
        await self.load(now)
        found = [item for item in self._listed.values() if _is_listed(item, now)]
        return sorted(found, key=lambda item: (item.started_at, item.id), reverse=True)

    def missed(self) -> None:
        """Records that the deployer did not answer. Once it answers again, times without samples count from 0."""
        self._answered_at = None
        self._absent.clear()

    # --- readings

    def silence(self, instances: Iterable[str], now: datetime) -> Reading:
        """Returns the longest time, in seconds, for which one of the instances has been missing in the deployer's
        answers. The reading has no value while the deployer does not answer.
        """
        answered_at = self._answered_at
        if answered_at is None:
            return Reading(None, "the deployer does not answer")
        absent = {name: (self._absent.get(name, (now,))[0], now) for name in instances if name not in self._latest}
        self._absent |= absent
        silent = {name: max(0.0, (answered_at - since).total_seconds()) for name, (since, _) in absent.items()}
        if not silent:
            return Reading(0.0, "every instance gives samples")
        worst = max(silent, key=lambda name: silent[name])
        description = f"instance {worst} gave no samples for {silent[worst]:.0f} s"
        return Reading(silent[worst], description, {"instance": worst})

    def cpu(self, release: str) -> Reading:
        """Returns the CPU use of the release's busiest instance, in percent of one core. The reading has no value if
        there are no samples.
        """
        return self._highest({name: item.cpu for name, item in self._own(release)}, "uses {:.0f} % of a core")

    def memory(self, release: str) -> Reading:
        """Returns the memory use of the release's fullest instance, as a share of its limit. The reading has no value
        if there are no samples.
        """
        shares = {name: item.memory for name, item in self._own(release)}
        return self._highest(shares, "uses {:.0%} of its memory limit")

    def memory_at_cap(self, release: str, now: datetime, beside: str | None = None) -> Reading:
        """Returns the highest memory use among instances whose limit is the largest that the manifest allows, as a
        share of the limit; 0 if there are no such instances. It is 1 for a minute after one of them was killed at its
        limit. `beside` is a release to compare with: if one of its instances was killed so, the value is 0 unless one
        of this release was killed, too.
        """
        killed = self.restart_history.killed(release, now)
        if killed is not None:
            return killed
        if beside is not None and self.restart_history.killed(beside, now) is not None:
            return Reading(0.0, "no instance was killed at its largest memory limit")
        own = self._own(release)
        shares = {name: item.memory if is_at_cap(self._frames[name].stats) else 0.0 for name, item in own}
        return self._highest(shares, "uses {:.0%} of its largest memory limit")

    def restarts(self, release: str, now: datetime, since: str | None = None) -> Reading:
        """Returns the number of restarts of all instances of the release within the last 10 minutes, but not from
        before the first sample of the release `since`. The reading has no value while the deployer does not answer.
        """
        if self._answered_at is None:
            return Reading(None, "the deployer does not answer")
        return self.restart_history.restarts(release, now, since)

    def _own(self, release: str) -> list[tuple[str, Sample]]:
        """Returns (id, last sample) of each of the release's instances; empty while the deployer does not answer."""
        own = self._of_release.get(release, []) if self._answered_at else []
        return [(name, self._latest[name]) for name in own]

    def _highest(self, figures: dict[str, float | None] | dict[str, float], description: str) -> Reading:
        measured = {name: figure for name, figure in figures.items() if figure is not None}
        if not measured:
            return Reading(None, "there is no sample")
        worst = max(measured, key=lambda name: measured[name])
        latest = self._latest[worst]
        evidence: dict[str, JsonValue] = {
            **{"instance": worst, "cpu": latest.cpu},
            **{"working_set": latest.working_set, "memory_limit": latest.memory_limit},
        }
        return Reading(measured[worst], f"instance {worst} {description.format(measured[worst])}", evidence)

    # --- Redis

    async def load(self, now: datetime) -> None:
        """Restores, once, the last minutes of samples that an earlier process has stored. Raises RedisError if Redis
        does not answer.
        """
        async with self._loading:
            if self._loaded:
                return
            begin = start_of(now - RECENT, MINUTE_S)
            stored = await self._store.instances()
            past = [
                (item, await self._store.samples(item.id, now - RESTARTS_IN, now))
                for item in stored
                if item.sample.at > now - RESTARTS_IN
            ]
            self._listed = {item.id: item for item in stored} | self._listed
            for item, samples in past:
                recent = [sample for sample in samples if sample.at >= begin]
                self._series.setdefault(item.id, TimeSeries(item.id)).restore(recent)
            self.restart_history.restore(past)
            self._loaded = True

    async def load_if_possible(self, now: datetime) -> None:
        """Calls `load()` before the first sample, once and for at most 2 s. If that fails, the cache begins empty."""
        if not self._tried:
            self._tried = True
            with contextlib.suppress(RedisError, TimeoutError):
                await asyncio.wait_for(self.load(now), FIRST_LOAD_S)

    def drop(self, app: str, environment: Environment) -> None:
        """Drops the last figures of an environment that was removed, without waiting until the deployer's next answer
        lacks them.
        """
        gone = {
            name
            for name, frame in self._frames.items()
            if (frame.stats.app, frame.stats.environment) == (app, environment)
        }
        self._frames = {name: frame for name, frame in self._frames.items() if name not in gone}
        self._latest = {name: latest for name, latest in self._latest.items() if name not in gone}
        own = {release: [name for name in names if name not in gone] for release, names in self._of_release.items()}
        self._of_release = {release: names for release, names in own.items() if names}

    async def forget(self, app: str) -> None:
        """Deletes the samples of the app's instances and releases, in memory and in the store. Raises RedisError."""
        async with self._loading:  # what is being loaded or stored at this moment would come back
            self._series = {name: series for name, series in self._series.items() if not is_of_app(name, app)}
            self._listed = {name: item for name, item in self._listed.items() if not is_of_app(name, app)}
            self._unsaved.discard(lambda item: is_of_app(item.id, app))
            self._unsaved_rows.discard(lambda row: is_of_app(row.of, app))
            self.restart_history.forget(app)
            await self._store.forget(app)

    async def flush(self) -> None:
        """Stores samples and rows (aggregates of a minute) that are not stored yet. Raises RedisError if Redis does not
        answer, and then keeps them for the next call.
        """
        if self.sampled_at is not None:
            await self.load(self.sampled_at)
        async with self._loading:
            await self._unsaved.flush(self._store.add)
            await self._unsaved_rows.flush(self._store.add_rollups)


def _is_listed(item: Watched, now: datetime) -> bool:
    return item.sample.at > now - LISTED_FOR


def _watched(stats: InstanceStats, latest: Sample) -> Watched:
    return Watched(**stats.model_dump(include=set(Watched.model_fields)), sample=latest)
