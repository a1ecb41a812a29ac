"""Computes samples of instances: CPU and memory figures from raw counters."""

import re
from dataclasses import dataclass
from datetime import datetime

from pydantic import Field

from services.monitor.samples.downsampling import Rollup, Spread
from shared.models import Environment, InstanceState, InstanceStats, View

_ID = re.compile(r"(.+)-r[0-9]+(?:-[0-9]+)?")


def is_of_app(of: str, app: str) -> bool:
    """Returns True if the instance or release with the id `of` belongs to the app."""
    found = _ID.fullmatch(of)
    return found is not None and found[1] == app


class Sample(View):
    """Holds one measurement of an instance. `restarts` and `oom_kills` include those of the instances that it
    replaced.
    """

    at: datetime
    cpu: float | None = Field(description="Percent of one core; null in the first sample after a start.")
    working_set: int = Field(description="Bytes.")
    memory_limit: int = Field(description="Bytes.")
    memory: float = Field(description="Working set as a share of the limit, 0 to 1.")
    restarts: int = 0
    oom_kills: int = 0

    def figures(self) -> dict[str, float | None]:
        """Returns name → figure of the sample, for downsampling; None for one that was not measured."""
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
    """Response item of `GET /instances`: an instance with its last sample."""

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
    """Holds the raw counters of an instance at one time. CPU use is computed from two of these."""

    at: datetime
    stats: InstanceStats


def sample(previous: Frame | None, frame: Frame) -> Sample:
    """Returns the sample at the time of `frame`. `cpu` is None if there is no previous frame, or if the instance was
    restarted since.
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
    """Response item of `GET /instances/{id}/samples`: the highest figures of a time step. `spread` holds name →
    minimum, mean and last value; null if the time step has only one sample.
    """

    spread: dict[str, Spread] | None = None


def item_of(row: Rollup) -> SampleItem:
    highest = {name: spread.max for name, spread in row.figures.items()}
    return SampleItem.model_validate(
        {"at": row.at, "cpu": None, **highest, "spread": row.figures if row.count > 1 else None}
    )
