"""Collects the input of a scaling decision: the instances of an environment's live release, and their kills at the
memory limit (OOM kills).
"""

import logging
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from pydantic import ValidationError

from services.monitor.samples.sample import Sample
from shared.models import Environment, Event, InstanceState, InstanceStats, View

log = logging.getLogger(__name__)

FAILED = f"instance.{InstanceState.FAILED}"
NEWS = timedelta(seconds=60)
SERVING = frozenset({InstanceState.READY, InstanceState.UNHEALTHY})
PRESENT = SERVING | {InstanceState.STARTING}
GAP_S = 5.0  # samples come every 2 s; a longer pause counts as a gap


@dataclass(frozen=True)
class EnvironmentKey:
    """Identifies one environment of one app, whose instances all have the same memory limit."""

    app: str
    environment: Environment

    def __str__(self) -> str:
        return f"{self.app}/{self.environment}"


@dataclass(frozen=True)
class ScalingInput:
    """Holds the figures of one instance on which a decision about its memory limit is based."""

    stats: InstanceStats
    """Last counters of the instance."""
    samples: Sequence[Sample]
    """Samples of the last 5 minutes, oldest first."""
    ready_at: datetime | None = None
    """Time of the first reading that found the instance serving; None if it does not serve."""

    @property
    def id(self) -> str:
        return self.stats.id

    @property
    def limit(self) -> int:
        return self.stats.memory_limit

    @property
    def share(self) -> float:
        return self.stats.working_set / self.limit

    def last(self, count: int) -> Sequence[Sample]:
        """Returns the newest samples, at most `count`, oldest first; none from before a gap of more than 5 s."""
        running = self.samples[-1:]
        for sample in reversed(self.samples[-count:-1]):
            if (running[0].at - sample.at).total_seconds() > GAP_S:
                break
            running = [sample, *running]
        return running

    def growth(self, count: int) -> float | None:
        """Returns the growth of memory use in bytes per second over the newest `count` samples that were taken while
        the instance was ready; None if there are fewer.
        """
        running = [sample for sample in self.last(count) if self.ready_at and sample.at >= self.ready_at]
        if len(running) < count or running[-1].at <= running[0].at:
            return None
        seconds = (running[-1].at - running[0].at).total_seconds()
        return (running[-1].working_set - running[0].working_set) / seconds

    def covered_s(self, now: datetime) -> float:
        """Returns the number of seconds before `now` that samples cover without a gap."""
        since = now
        for sample in reversed(self.samples):
            if (since - sample.at).total_seconds() > GAP_S:
                break
            since = sample.at
        return (now - since).total_seconds()

    def silent_s(self, now: datetime) -> float:
        """Returns the seconds since the last sample; infinity if there is none."""
        return (now - self.samples[-1].at).total_seconds() if self.samples else float("inf")

    def highest(self, since: datetime) -> int:
        """Returns the highest working set since `since`, in bytes."""
        first = bisect_left(self.samples, since, key=lambda item: item.at)
        return max([self.stats.working_set, *[item.working_set for item in self.samples[first:]]])

    def killed_since(self, since: datetime) -> bool:
        """Returns True if the instance has had a kill at its memory limit since `since`."""
        return any(item.at >= since and item.oom_kills < self.stats.oom_kills for item in self.samples)


@dataclass(frozen=True)
class Kill:
    """Describes a kill of an instance at its memory limit."""

    instance: str
    release: str
    limit: int
    """Memory limit at the time of the kill, in bytes."""
    max_memory: int
    """Largest limit that the manifest allows, in bytes."""


class OomKill(View):
    """Holds the fields of an `instance.failed` event about a kill at the memory limit. `memory_limit` and `max_memory`
    are in bytes.
    """

    oom_killed: bool = False
    environment: Environment
    release: str
    memory_limit: int
    max_memory: int


def kill_of(event: Event, now: datetime) -> tuple[EnvironmentKey, Kill] | None:
    """Returns the environment and the kill that an `instance.failed` event reports; None for any other event. Also
    returns None for a kill more than a minute ago, since the deployer's counters contain it by now.
    """
    if event.type != FAILED or not (event.model_extra or {}).get("oom_killed") or event.at <= now - NEWS:
        return None
    try:
        fields = OomKill.model_validate(event.model_extra)
    except ValidationError as error:
        log.warning("an OOM kill that is not understood, event of %s: %s", event.id, error)
        return None
    kill = Kill(event.id, fields.release, fields.memory_limit, fields.max_memory)
    return EnvironmentKey(event.app, fields.environment), kill


@dataclass(frozen=True)
class LiveRelease:
    """Holds the instances, and the kills at the memory limit, of one environment's live release."""

    release: str
    instances: Sequence[ScalingInput] = ()
    """Instances of the release that serve or start."""
    under_way: bool = False
    """True if another release has instances, or if no instance of this one serves yet."""
    kills: Sequence[Kill] = ()

    @property
    def serving(self) -> list[ScalingInput]:
        return [instance for instance in self.instances if instance.stats.state in SERVING]

    @property
    def limit(self) -> int:
        """Returns the largest memory limit of the release's instances, in bytes; 0 if it has none."""
        return max((instance.limit for instance in self.instances), default=0)


def live_release(instances: Iterable[ScalingInput]) -> LiveRelease:
    """Returns the live release among all instances of an environment: the oldest release that serves; if none serves,
    the oldest one. Instances that drain, have ended or have no memory limit are ignored.
    """
    present = [each for each in instances if each.stats.state in PRESENT and each.limit > 0]
    releases = sorted({each.stats.release for each in present}, key=lambda release: (len(release), release))
    serve = [name for name in releases if any(x.stats.release == name and x.stats.state in SERVING for x in present)]
    live = next(iter(serve or releases), "")
    return LiveRelease(
        release=live,
        instances=[each for each in present if each.stats.release == live],
        under_way=bool(releases) and (len(releases) > 1 or not serve),
    )


@dataclass(frozen=True)
class OomKillCounter:
    """Holds the last reading of an instance's counter of kills at its memory limit."""

    oom_kills: int
    limit: int
    """Memory limit at that time, in bytes."""


def count_kills(
    earlier: Mapping[str, OomKillCounter], instances: Iterable[ScalingInput]
) -> tuple[dict[str, OomKillCounter], list[Kill]]:
    """Returns instance id → counter after new readings of one release, and the kills since the `earlier` counters. The
    counter of a new instance continues that of an instance that has ended: the highest one that is not above its own.
    If there is none, its first reading only sets the baseline.
    """
    present = {instance.id: instance for instance in instances}
    gone = {name: counter for name, counter in earlier.items() if name not in present}
    kills = []
    for name, instance in present.items():
        before = earlier.get(name)
        if before is None:
            fitting = [other for other, counter in gone.items() if counter.oom_kills <= instance.stats.oom_kills]
            replaced = max(fitting, key=lambda other: gone[other].oom_kills, default=None)
            before = gone.pop(replaced) if replaced else None
        if before is not None and instance.stats.oom_kills > before.oom_kills:
            kills.append(Kill(name, instance.stats.release, before.limit, instance.stats.max_memory))
    now = {name: OomKillCounter(instance.stats.oom_kills, instance.limit) for name, instance in present.items()}
    return gone | now, kills
