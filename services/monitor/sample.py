"""One look at an instance: raw counters in, CPU and memory out."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from shared.models import Environment, InstanceState, InstanceStats, View


class Sample(View):
    """`cpu` in percent of one core, null in an instance's first sample; `working_set` and `memory_limit` in bytes;
    `memory` is the share of the limit, 0 to 1. `restarts` and `oom_kills` as the deployer counts them.
    """

    at: datetime
    cpu: float | None
    working_set: int
    memory_limit: int
    memory: float
    restarts: int = 0
    oom_kills: int = 0


class Watched(View):
    """An instance as it was last seen."""

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
    """Counters and when they were read; CPU is the difference of two."""

    at: datetime
    stats: InstanceStats


def sample(previous: Frame | None, frame: Frame) -> Sample:
    """The sample at `frame`. A restarted instance counts from 0 again: there is no CPU figure until its next sample."""
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


def thinned(samples: Iterable[Sample], step_s: int) -> list[Sample]:
    """One sample for each `step_s` seconds, in the order given, holding the highest figures: averages hide spikes."""
    buckets: dict[int, Sample] = {}
    for item in samples:
        start = int(item.at.timestamp()) // step_s * step_s
        top = buckets.get(start)
        buckets[start] = _highest(top, item) if top else item.model_copy(update={"at": _moment(start)})
    return list(buckets.values())


def _highest(one: Sample, other: Sample) -> Sample:
    cpus = [cpu for cpu in (one.cpu, other.cpu) if cpu is not None]
    return Sample(
        at=one.at,
        cpu=max(cpus, default=None),
        working_set=max(one.working_set, other.working_set),
        memory_limit=max(one.memory_limit, other.memory_limit),
        memory=max(one.memory, other.memory),
        restarts=max(one.restarts, other.restarts),
        oom_kills=max(one.oom_kills, other.oom_kills),
    )


def _moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
