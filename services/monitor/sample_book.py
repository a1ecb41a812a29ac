"""What is known of every instance: its last counters and sample, how long it is silent, what is not stored yet."""

from collections import deque
from collections.abc import Iterable
from datetime import datetime, timedelta

from services.monitor.rule import Reading
from services.monitor.sample import Frame, Sample, Watched, sample
from services.monitor.store import SampleStore
from shared.models import InstanceStats

RECENT = timedelta(minutes=5)
UNSAVED_MOST = 20_000  # about ten minutes of 60 instances; older ones are let go while Redis is away


class SampleBook:
    """In memory; `flush()` writes behind."""

    def __init__(self, store: SampleStore) -> None:
        self._store = store
        self._frames: dict[str, Frame] = {}
        self._latest: dict[str, Sample] = {}
        self._recent: dict[str, deque[Sample]] = {}
        self._absent_since: dict[str, datetime] = {}
        self._answered_at: datetime | None = None
        self._unsaved: list[Watched] = []

    def take(self, items: Iterable[InstanceStats], now: datetime) -> None:
        """One answer of the deployer: everything that runs. An instance that it leaves out is silent from now on."""
        frames = {stats.id: Frame(now, stats) for stats in items}
        self._latest = {name: sample(self._frames.get(name), frame) for name, frame in frames.items()}
        self._frames = frames
        self._recent = {name: self._recent.get(name, deque()) for name in frames}
        for name, past in self._recent.items():
            past.append(self._latest[name])
            while past[0].at < now - RECENT:
                past.popleft()
        self._absent_since = {name: since for name, since in self._absent_since.items() if name not in frames}
        self._answered_at = now
        self._unsaved += [_watched(frame.stats, self._latest[name]) for name, frame in frames.items()]
        del self._unsaved[:-UNSAVED_MOST]

    def stats(self) -> list[InstanceStats]:
        """The last answer's counters of everything that ran then; empty while the deployer does not answer."""
        return [frame.stats for frame in self._frames.values()] if self._answered_at else []

    def recent(self, instance_id: str) -> list[Sample]:
        """Its samples of the last 5 min, oldest first; since this process started, not longer."""
        return list(self._recent.get(instance_id, ()))

    def missed(self) -> None:
        """The deployer did not answer: nothing is known, and the time does not count as an instance's silence."""
        self._answered_at = None
        self._absent_since.clear()

    def silence(self, instances: Iterable[str], now: datetime) -> Reading:
        """Seconds for which the most silent of these instances gave no samples."""
        answered_at = self._answered_at
        if answered_at is None:
            return Reading(None, "the deployer does not answer")
        absent = {name: self._absent_since.setdefault(name, now) for name in instances if name not in self._latest}
        silent = {name: max(0.0, (answered_at - since).total_seconds()) for name, since in absent.items()}
        if not silent:
            return Reading(0.0, "every instance gives samples")
        worst = max(silent, key=lambda name: silent[name])
        return Reading(silent[worst], f"instance {worst} gave no samples for {silent[worst]:.0f} s")

    def cpu(self, release: str) -> Reading:
        """Percent of one core, of the busiest instance of the release."""
        return self._highest(
            release, {name: item.cpu for name, item in self._latest.items()}, "uses {:.0f} % of a core"
        )

    def memory(self, release: str) -> Reading:
        """Share of the limit, of the fullest instance of the release."""
        shares: dict[str, float | None] = {name: item.memory for name, item in self._latest.items()}
        return self._highest(release, shares, "uses {:.0%} of its memory limit")

    def _highest(self, release: str, figures: dict[str, float | None], words: str) -> Reading:
        known = {
            name: figure
            for name, figure in figures.items()
            if figure is not None and self._frames[name].stats.release == release
        }
        if not known or self._answered_at is None:
            return Reading(None, "there is no sample")
        worst = max(known, key=lambda name: known[name])
        return Reading(known[worst], f"instance {worst} {words.format(known[worst])}")

    async def flush(self) -> None:
        """Stores what is not stored yet; raises RedisError, and then keeps it for the next time."""
        batch, self._unsaved = self._unsaved, []
        try:
            await self._store.add(batch)
        except BaseException:
            self._unsaved = (batch + self._unsaved)[-UNSAVED_MOST:]
            raise


def _watched(stats: InstanceStats, latest: Sample) -> Watched:
    return Watched(**stats.model_dump(include=set(Watched.model_fields)), sample=latest)
