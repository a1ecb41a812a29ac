"""What a decision about memory is made from: the instances of one environment's live release, and OOM kills."""

import logging
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
GAP_S = 5.0  # samples come every 2 s: a longer pause is a gap, in which anything may have happened


@dataclass(frozen=True)
class EnvironmentKey:
    """One environment of one app: its instances share one memory limit."""

    app: str
    environment: Environment

    def __str__(self) -> str:
        return f"{self.app}/{self.environment}"


@dataclass(frozen=True)
class ScalingInput:
    """One instance: last counters, its samples of the last 5 min (oldest first), and since when it serves."""

    stats: InstanceStats
    samples: Sequence[Sample]
    ready_at: datetime | None = None

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
        """The last samples that followed each other without a gap; fewer than `count` if there are not so many."""
        running = self.samples[-1:]
        for sample in reversed(self.samples[-count:-1]):
            if (running[0].at - sample.at).total_seconds() > GAP_S:
                break
            running = [sample, *running]
        return running

    def growth(self, count: int) -> float | None:
        """Bytes per second over the last `count` samples, those from before it was ready left out; None if fewer."""
        running = [sample for sample in self.last(count) if self.ready_at and sample.at >= self.ready_at]
        if len(running) < count or running[-1].at <= running[0].at:
            return None
        seconds = (running[-1].at - running[0].at).total_seconds()
        return (running[-1].working_set - running[0].working_set) / seconds

    def covered_s(self, now: datetime) -> float:
        """For how many seconds up to now there are samples without a gap."""
        since = now
        for sample in reversed(self.samples):
            if (since - sample.at).total_seconds() > GAP_S:
                break
            since = sample.at
        return (now - since).total_seconds()

    def highest(self, since: datetime) -> int:
        """Bytes: the highest use since then, the last counters included."""
        return max([self.stats.working_set, *(item.working_set for item in self.samples if item.at >= since)])

    def killed_since(self, since: datetime) -> bool:
        """Whether the kernel killed something in it since then."""
        return any(item.at >= since and item.oom_kills < self.stats.oom_kills for item in self.samples)


@dataclass(frozen=True)
class Kill:
    """The kernel killed an instance that was at its limit of `limit` bytes; its manifest allows `max_memory`."""

    instance: str
    release: str
    limit: int
    max_memory: int


class OomKill(View):
    """The part of the event `instance.failed` that says of an OOM kill; `memory_limit` and `max_memory` in bytes."""

    oom_killed: bool = False
    environment: Environment
    release: str
    memory_limit: int
    max_memory: int


def kill_of(event: Event, now: datetime) -> tuple[EnvironmentKey, Kill] | None:
    """The OOM kill that the event tells of, if it does; one that is old has been told by the counters by now."""
    if event.type != FAILED or not (event.model_extra or {}).get("oom_killed") or event.at <= now - NEWS:
        return None
    try:
        told = OomKill.model_validate(event.model_extra)
    except ValidationError as error:
        log.warning("an OOM kill that is not understood, event of %s: %s", event.id, error)
        return None
    return EnvironmentKey(event.app, told.environment), Kill(event.id, told.release, told.memory_limit, told.max_memory)


@dataclass(frozen=True)
class InstanceReading:
    """The live release's instances that serve or will; `under_way`: another release starts, or this one does."""

    release: str
    looks: Sequence[ScalingInput] = ()
    under_way: bool = False
    kills: Sequence[Kill] = ()

    @property
    def serving(self) -> list[ScalingInput]:
        return [look for look in self.looks if look.stats.state in SERVING]


def see(looks: Iterable[ScalingInput]) -> InstanceReading:
    """Finds the live release of one environment among all its instances: the oldest that serves.

    An instance that drains or has ended counts for nothing, nor does one without a limit. Ids of releases count up.
    """
    present = [look for look in looks if look.stats.state in PRESENT and look.limit > 0]
    releases = sorted({look.stats.release for look in present}, key=lambda release: (len(release), release))
    serve = [name for name in releases if any(x.stats.release == name and x.stats.state in SERVING for x in present)]
    live = next(iter(serve or releases), "")
    return InstanceReading(
        release=live,
        looks=[look for look in present if look.stats.release == live],
        under_way=bool(releases) and (len(releases) > 1 or not serve),
    )


@dataclass(frozen=True)
class OomKillCounter:
    """An instance's OOM kills at the last look, and the limit that it had then, bytes."""

    oom_kills: int
    limit: int


def count_kills(
    known: Mapping[str, OomKillCounter], looks: Iterable[ScalingInput]
) -> tuple[dict[str, OomKillCounter], list[Kill]]:
    """The tallies after these looks at one release, and the kills since `known`.

    A new instance counts on from the one that it replaces: of those that are gone, the one with the highest tally that
    is not above its own. Where nothing fits, it is seen for the first time, and what it counts is no news.
    """
    present = {look.id: look for look in looks}
    tallies = {name: tally for name, tally in known.items() if name not in present}
    kills = []
    for name, look in present.items():
        before = known.get(name)
        if before is None:
            fitting = [gone for gone, tally in tallies.items() if tally.oom_kills <= look.stats.oom_kills]
            replaced = max(fitting, key=lambda gone: tallies[gone].oom_kills, default=None)
            before = tallies.pop(replaced) if replaced else None
        if before is not None and look.stats.oom_kills > before.oom_kills:
            kills.append(Kill(name, look.stats.release, before.limit, look.stats.max_memory))
    return tallies | {name: OomKillCounter(look.stats.oom_kills, look.limit) for name, look in present.items()}, kills
