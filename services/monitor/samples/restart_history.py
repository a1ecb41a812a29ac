"""Counts the restarts of every release, and records kills of instances whose memory limit could not be raised any
more.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from services.monitor.rules.rule import Reading
from services.monitor.samples.counter_increase import CounterIncrease
from services.monitor.samples.sample import Sample, Watched, is_of_app
from shared.models import InstanceState, InstanceStats

RESTARTS_IN = timedelta(minutes=10)
OOM_COUNTS_FOR = timedelta(seconds=60)
STAYING = frozenset({InstanceState.STARTING, InstanceState.READY})


class RestartHistory:
    """Counts restarts, and kills at the memory limit (OOM kills), by release. The first reading of a release only sets
    the baseline.
    """

    def __init__(self) -> None:
        self._restarts: dict[str, CounterIncrease] = {}
        self._oom_kills: dict[str, CounterIncrease] = {}
        self._at_cap: dict[str, dict[str, bool]] = {}
        self._killed: dict[str, tuple[datetime, str]] = {}

    def record(self, items: Iterable[InstanceStats], now: datetime) -> None:
        """Records the counters of all running instances, as the deployer lists them."""
        releases: dict[str, list[InstanceStats]] = {}
        for stats in items:
            releases.setdefault(stats.release, []).append(stats)
        for release, own in releases.items():
            leaving = {stats.id for stats in own if stats.state not in STAYING}
            increase = self._restarts.setdefault(release, CounterIncrease(RESTARTS_IN))
            increase.record({stats.id: stats.restarts for stats in own}, now, leaving)
            oom_kills = self._oom_kills.setdefault(release, CounterIncrease(RESTARTS_IN))
            for name in oom_kills.record({stats.id: stats.oom_kills for stats in own}, now, leaving):
                if self._at_cap.get(release, {}).get(name):
                    self.note_kill(release, f"instance {name} was killed at its largest memory limit", now)
            kept = {name: cap for name, cap in self._at_cap.get(release, {}).items() if oom_kills.knows(name)}
            self._at_cap[release] = kept | {stats.id: is_at_cap(stats) for stats in own}
        self._forget(now)

    def restore(self, past: Sequence[tuple[Watched, Sequence[Sample]]]) -> None:
        """Restores restarts from stored samples, for releases that have had no reading since the start of the
        monitor.
        """
        counts_at: dict[tuple[datetime, str], dict[str, int]] = {}
        for instance, samples in past:
            if instance.release not in self._restarts:
                for sample in samples:
                    counts_at.setdefault((sample.at, instance.release), {})[instance.id] = sample.restarts
        for (at, release), counts in sorted(counts_at.items()):
            self._restarts.setdefault(release, CounterIncrease(RESTARTS_IN)).record(counts, at)

    def note_kill(self, release: str, description: str, at: datetime) -> None:
        """Records that an instance was killed at its memory limit, which was the largest that the manifest allows."""
        last = self._killed.get(release)
        if last is None or last[0] < at:
            self._killed[release] = (at, description)

    def killed(self, release: str, now: datetime) -> Reading | None:
        """Returns a reading with the value 1 if, within the last minute, an instance of the release was killed at the
        largest memory limit allowed; else None.
        """
        at, description = self._killed.get(release, (now - OOM_COUNTS_FOR, ""))
        return Reading(1.0, description, {"killed_at": at.isoformat()}) if at > now - OOM_COUNTS_FOR else None

    def restarts(self, release: str, now: datetime, since: str | None = None) -> Reading:
        """Returns the number of restarts of all instances of the release within the last 10 minutes, but not from
        before the first reading of the release `since`. The reading has no value if the release has had no sample.
        """
        increase = self._restarts.get(release)
        if increase is None:
            return Reading(None, "there is no sample")
        other = self._restarts.get(since) if since else None
        begun_at = other.begun_at if other else None
        count = increase.within(min(RESTARTS_IN, now - begun_at) if begun_at else RESTARTS_IN, now)
        minutes = RESTARTS_IN // timedelta(minutes=1)
        return Reading(count, f"restarted {count} times within {minutes} min", {"restarts": count})

    def forget(self, app: str) -> None:
        """Drops the restart counts of all releases of the app."""
        self._restarts = {name: kept for name, kept in self._restarts.items() if not is_of_app(name, app)}
        self._oom_kills = {name: kept for name, kept in self._oom_kills.items() if not is_of_app(name, app)}
        self._killed = {name: kept for name, kept in self._killed.items() if not is_of_app(name, app)}
        self._at_cap = {name: kept for name, kept in self._at_cap.items() if not is_of_app(name, app)}

    def _forget(self, now: datetime) -> None:
        self._restarts = _fresh(self._restarts, now)
        self._oom_kills = _fresh(self._oom_kills, now)
        self._killed = {name: kill for name, kill in self._killed.items() if kill[0] > now - OOM_COUNTS_FOR}
        self._at_cap = {name: kept for name, kept in self._at_cap.items() if name in self._oom_kills}


def is_at_cap(stats: InstanceStats) -> bool:
    """Returns True if the instance's memory limit is the largest that the manifest allows."""
    return stats.memory_limit >= stats.max_memory


def _fresh(increases: Mapping[str, CounterIncrease], now: datetime) -> dict[str, CounterIncrease]:
    return {name: kept for name, kept in increases.items() if kept.read_at and kept.read_at > now - RESTARTS_IN}
