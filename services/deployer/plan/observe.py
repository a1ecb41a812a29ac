"""Derives state changes of instances from the engine's statuses and from probes. Pure."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from services.deployer.drivers.driver import InstanceStatus
from services.deployer.plan.action import Change, MoveInstance, RaiseMemory, RecordAddress, RecordEnd
from services.deployer.releases.environment import Override, desired
from services.deployer.releases.instance import RUNNING, Instance
from services.deployer.releases.out_of_memory import kill_reason, memory_after_kill
from services.deployer.releases.release import Release
from shared.host.exit_words import exit_words
from shared.models import InstanceState, ReleaseState
from shared.proxy_models import RouteState

S = InstanceState
MISSES_ALLOWED = 2
CROWDED_DISCOUNT = 0.75
WAITS_FOR_PROXY = "waits for the proxy: "


@dataclass(frozen=True)
class ObservationLimits:
    """Time limits in seconds, from the settings (`config.py`)."""

    watch_s: float
    """Time after going live in which a failure makes the release faulty."""
    unhealthy_kept_s: float
    """Time after which an unhealthy instance is replaced."""


@dataclass(frozen=True)
class InstanceHealth:
    """The result of the probes of one instance since this deployer process started."""

    misses: int
    """Number of failed probes in a row; 0 if the last one succeeded."""
    detail: str
    """Result of the last probe, in words for a person."""
    cpu_waited_s: float = 0.0
    """Seconds since its first probe in which processes of this machine waited for a CPU; 0 once it is ready."""


@dataclass(frozen=True)
class World:
    """All stored and observed facts about one environment. Unknown facts are left out; nothing is decided from that."""

    releases: Mapping[str, Release]
    """Releases that have not ended or still have instances, by id."""
    instances: Mapping[str, Instance]
    """Instances by id, oldest first."""
    override: Override = field(default_factory=Override)
    published: frozenset[str] = frozenset()
    """Ids of the instances that have an entry in the registry."""
    statuses: Mapping[str, InstanceStatus] = field(default_factory=dict)
    """Status in the engine, by instance id; not of what runs under an id and is not the recorded instance."""
    forgotten: frozenset[str] = frozenset()
    """Ids of the instances that the engine did not know at the first look of this deployer process: it is another
    engine, or another home, or was emptied.
    """
    start_errors: Mapping[str, str] = field(default_factory=dict)
    """Reason why the engine could not start an instance, by instance id."""
    unusable: Mapping[str, str] = field(default_factory=dict)
    """Reason why no instance can be started from the artifact, by id of the live release."""
    stopped: frozenset[str] = frozenset()
    """Ids of the instances that this deployer process has stopped completely."""
    health: Mapping[str, InstanceHealth] = field(default_factory=dict)
    """Results of the probes, by instance id."""
    routes: Mapping[str, RouteState] | None = None
    """Routes in the proxy's last answer, by instance id; None if the registry has changed since."""
    checked: Mapping[str, str] = field(default_factory=dict)
    """Result of `Check` by release id: the reason why instances cannot be started, empty if they can."""
    away: str = ""
    """The part of the platform that does not answer, in words for people; empty if none is known to be away."""
    cpu_waited_s: float = 0.0
    """Seconds, since this deployer process first saw instances of the starting release run, in which processes of this
    machine waited for a CPU.
    """
    waits_for: str = ""
    """Reason why the proxy's answer is missing or the rollout is not open yet; else empty."""
    refused: str = ""
    """Reason why the proxy refuses the route, so that waiting does not help; else empty."""
    fixed_memory: frozenset[str] = frozenset()
    """Ids of the instances whose memory limit the engine cannot change."""
    memory_refused: Mapping[str, int] = field(default_factory=dict)
    """Memory limit, in bytes, that the engine refused within the last 30 s, by instance id."""
    facts_digest: str = ""
    """Digest of the platform facts that a new instance would receive (`AppFacts.digest`)."""
    may_replace: bool = True
    """False while the environment must wait with replacements that the platform decides on (`plan.to_replace`)."""

    def route(self, instance_id: str) -> RouteState | None:
        """Returns the instance's route: ABSENT if the proxy's answer lacks it, None if there is no answer."""
        return None if self.routes is None else self.routes.get(instance_id, RouteState.ABSENT)

    def only(self, state: ReleaseState) -> Release | None:
        """Returns the release in that state, or None; at most one is starting, and one live."""
        return next((release for release in self.releases.values() if release.state is state), None)

    def of(self, release: Release) -> list[Instance]:
        """Returns the release's instances, oldest first."""
        return [instance for instance in self.instances.values() if instance.release == release.id]

    def last_seen(self, instance: Instance) -> str:
        """Returns what was last seen of an instance that is not ready yet, in words for people."""
        if instance.id not in self.statuses:
            return "the engine has not started it yet"
        health = self.health.get(instance.id)
        return health.detail if health is not None else "it was not probed yet"

    def passes(self, instance: Instance) -> bool:
        """Returns True if the instance's last probe succeeded."""
        health = self.health.get(instance.id)
        return health is not None and health.misses == 0


def observe(world: World, limits: ObservationLimits, now: datetime) -> list[Change]:
    """Returns changes that happened to instances by themselves: crashes, health, new addresses, completed stops."""
    return [change for instance in world.instances.values() for change in _of_one(world, instance, limits, now)]


def _of_one(world: World, instance: Instance, limits: ObservationLimits, now: datetime) -> Iterator[Change]:
    if instance.state in RUNNING:
        status = world.statuses.get(instance.id)
        if status is not None and status.address not in ("", instance.address):
            yield RecordAddress(instance.id, status.address)
        if (end := _new_state(world, instance, limits, now)) is not None:
            state, reason = end
            fault = state in (S.FAILED, S.UNHEALTHY) and _counts_against_release(world, instance, limits, now)
            if fault and (memory := _memory_after_kill(world, instance)) is not None:
                fault = False
                if memory > desired(world.override, world.releases[instance.release].manifest.resources).memory:
                    yield RaiseMemory(instance.release, memory)
            yield MoveInstance(instance.id, state, reason, fault)
    elif instance.id in world.stopped and instance.ended_at is None:
        if instance.state is S.DRAINING:
            yield MoveInstance(instance.id, S.STOPPED, instance.reason)
        yield RecordEnd(instance.id)


def _new_state(
    world: World, instance: Instance, limits: ObservationLimits, now: datetime
) -> tuple[InstanceState, str] | None:
    """Returns the instance's new state and the reason; None if unchanged. `plan.py` decides about readiness."""
    status, health = world.statuses.get(instance.id), world.health.get(instance.id)
    if instance.id in world.start_errors:
        return S.FAILED, world.start_errors[instance.id]
    if status is None and instance.state is S.STARTING and instance.release in world.unusable:
        return S.STOPPED, world.unusable[instance.release]  # no fault of the app
    if status is None:
        if instance.id in world.forgotten:
            return S.STOPPED, "the platform was stopped, and the engine does not know it any more"
        # A starting one without a process is to be started; any other one should be known to the engine.
        return None if instance.state is S.STARTING else (S.FAILED, "the engine does not know it any more")
    if not status.running and status.interrupted:
        return S.STOPPED, "the platform or the machine was stopped"
    if status.oom_killed:
        return S.FAILED, kill_reason(instance.memory, _max_memory(world, instance))
    if not status.running:
        return S.FAILED, "it ended" if status.exit_code is None else f"it ended with {exit_words(status.exit_code)}"
    if health is None:
        return None
    if instance.state is S.STARTING and health.misses:
        return _not_ready(world, instance, health, now)
    if instance.state is S.READY and health.misses > MISSES_ALLOWED:
        return S.UNHEALTHY, f"{health.misses} probes in a row missed: {health.detail}"
    if instance.state is S.UNHEALTHY and health.misses == 0:
        return S.READY, "its health is back"
    return None


def _not_ready(
    world: World, instance: Instance, health: InstanceHealth, now: datetime
) -> tuple[InstanceState, str] | None:
    """Returns the end of an instance that starts for too long, else None. One of a starting release is not judged here:
    that has a clock of its own (`ready_deadline.py`).
    """
    release = world.releases[instance.release]
    limit_s, age_s = release.manifest.run.ready_within, (now - instance.created_at).total_seconds()
    more_s = discount_s(health.cpu_waited_s, age_s)
    if release.state is ReleaseState.STARTING or age_s - more_s < limit_s:
        return None
    return S.FAILED, over_time("ready", limit_s, health.detail, more_s)


def discount_s(cpu_waited_s: float, waited_s: float) -> float:
    """Returns the seconds that do not count: a second in which processes of this machine waited for a CPU counts a
    quarter, so a wait is at most four times as long.
    """
    return CROWDED_DISCOUNT * min(cpu_waited_s, waited_s)


def over_time(what: str, limit_s: float, seen: str, more_s: float) -> str:
    """Returns the reason of the end of an instance that was not `what` in time; `seen` is what was seen last."""
    more = f"; it was given {more_s:.0f} s more, as the CPU was short" if more_s >= 1.5 else ""
    return f"not {what} within {limit_s:g} s: {seen}{more}"


def _memory_after_kill(world: World, instance: Instance) -> int | None:
    """Returns the replacement's memory limit in bytes after an OOM kill; None without one, or at the maximum."""
    status = world.statuses.get(instance.id)
    was_killed = status is not None and status.oom_killed
    return memory_after_kill(instance.memory, _max_memory(world, instance)) if was_killed else None


def _max_memory(world: World, instance: Instance) -> int:
    return world.releases[instance.release].manifest.resources.max_memory


def routes_but(unhealthy: Collection[str], world: World) -> dict[str, RouteState] | None:
    """Returns the routes of an app all of whose ready instances get visitors but the unhealthy ones, so that an ill
    instance does not hold up a new release; None if there are none. One that drains may still have requests.
    """
    if not unhealthy:
        return None
    routes = {}
    for instance in world.instances.values():
        if instance.state is S.READY:
            routes[instance.id] = RouteState.ABSENT if instance.id in unhealthy else RouteState.ROUTABLE
        elif instance.state is S.DRAINING:
            routes[instance.id] = RouteState.DRAINING
    return routes


def _counts_against_release(world: World, instance: Instance, limits: ObservationLimits, now: datetime) -> bool:
    """Returns True if a failure now makes the release faulty: while it starts, and for `watch_s` after going live."""
    release = world.releases[instance.release]
    if release.state is ReleaseState.LIVE and release.live_at is not None:
        return now - release.live_at <= timedelta(seconds=limits.watch_s)
    return release.state is ReleaseState.STARTING
