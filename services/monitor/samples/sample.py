"""Samples of an instance: raw counters in, CPU and memory figures out."""

from dataclasses import dataclass
from datetime import datetime

from services.monitor.samples.downsampling import Rollup, Spread
from shared.models import Environment, InstanceState, InstanceStats, View


class Sample(View):
    """One measurement of an instance: `cpu` in percent of one core (null in its first sample), `working_set` and
    `memory_limit` in bytes, `memory` the share of the limit (0 to 1), `restarts` and `oom_kills` as the deployer counts
    them.
    """

    at: datetime
    cpu: float | None
    working_set: int
    memory_limit: int
    memory: float
    restarts: int = 0
    oom_kills: int = 0

    def figures(self) -> dict[str, float | None]:
        """Returns the figures by name, for `downsampling`."""
        return {
            "cpu": self.cpu,
            "working_set": self.working_set,
            "memory_limit": self.memory_limit,
            "memory": self.memory,
            "restarts": self.restarts,
            "oom_kills": self.oom_kills,
        }

    def sums(self) -> dict[str, int]:
        return {}


class Watched(View):
    """An instance with its last sample."""

    id: str
    app: str
    environment: Environment
    release: str
    component: str
    state: InstanceState
    started_at: datetime
    sample: Sample


@dataclass(frozen=True)
class Frame:
    """The raw counters of an instance and when they were read; CPU use is the difference of two frames."""

    at: datetime
    stats: InstanceStats


def sample(previous: Frame | None, frame: Frame) -> Sample:
    """Computes the sample at `frame`. A restarted instance counts from 0 again: its CPU is None until the next
    sample.
    """
    stats = frame.stats
    return Sample(
        at=frame.at,
        cpu=_cpu_percent(previous, frame),
        working_set=stats.working_set,
        memory_limit=stats.memory_limit,
        memory=round(stats.working_set / stats.memory_limit, 4) if stats.memory_limit > 0 else 0.0,
        restarts=stats.restarts,
        oom_kills=stats.oom_kills,
    )


def _cpu_percent(previous: Frame | None, frame: Frame) -> float | None:
    if previous is None or previous.stats.started_at != frame.stats.started_at:
        return None
    seconds = (frame.at - previous.at).total_seconds()
    used = frame.stats.cpu_seconds - previous.stats.cpu_seconds
    if seconds <= 0 or used < 0:
        return None
    return round(100 * used / seconds, 2)


class SampleItem(Sample):
    """The highest figures of a step; `spread` has minimum, mean and last where the step holds more than one sample."""

    spread: dict[str, Spread] | None = None


def item_of(row: Rollup) -> SampleItem:
    highest = {name: spread.max for name, spread in row.figures.items()}
    return SampleItem.model_validate(
        {"at": row.at, "cpu": None, **highest, "spread": row.figures if row.count > 1 else None}
    )
