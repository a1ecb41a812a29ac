"""Derives changes of instances from the statuses that the driver reports, and from health probes. Pure."""

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
    """Holds the time limits for judging instances, in seconds, from the deployer's settings."""

    watch_s: float
    """Time after going live during which the failure of an instance counts against the release."""
    unhealthy_kept_s: float
    """Time that an instance may be unhealthy before it is replaced."""


@dataclass(frozen=True)
class InstanceHealth:
    """Holds the results of the probes of one instance since this process of the deployer started."""

    misses: int
    """Number of failed probes in a row; 0 if the last one succeeded."""
    detail: str
    """Result of the last probe, in words for people."""
    cpu_waited_s: float = 0.0
    """Seconds since the instance's first probe in which processes of this machine waited for a CPU; 0 once the instance
    is ready.
    """


@dataclass(frozen=True)
class World:
    """Holds all stored and observed facts about one environment. An unknown fact is absent; the plan then waits for
    it.
    """

    releases: Mapping[str, Release]
    """Releases that have not ended or still have instances, by id."""
    instances: Mapping[str, Instance]
    """Instances by id, oldest first."""
    override: Override = field(default_factory=Override)
    published: frozenset[str] = frozenset()
    """Ids of the instances that have an entry in the registry."""
    statuses: Mapping[str, InstanceStatus] = field(default_factory=dict)
    """Instance id → its status from the driver. An instance is missing if the driver does not know it, or runs
    something else under its id.
    """
    forgotten: frozenset[str] = frozenset()
    """Ids of recorded instances that the engine did not know when this process of the deployer first asked: the engine
    or the platform's home is another one, or has lost its content.
    """
    start_errors: Mapping[str, str] = field(default_factory=dict)
    """Instance id → the reason why the driver could not start it."""
    unusable: Mapping[str, str] = field(default_factory=dict)
    """Id of the live release → the reason why no instance can be started from its artifact."""
    stopped: frozenset[str] = frozenset()
    """Ids of the instances that this process of the deployer has stopped completely."""
    health: Mapping[str, InstanceHealth] = field(default_factory=dict)
    """Instance id → the results of its probes."""
    routes: Mapping[str, RouteState] | None = None
    """Instance id → the state of its route in the proxy's last answer; None if the registry has changed since that
    answer.
    """
    checked: Mapping[str, str] = field(default_factory=dict)
    """Release id → result of the check before a stop-first release drains the old instances: the reason why its own
    cannot be started, empty if they can.
    """
    away: str = ""
    """Name of a part of the platform that does not answer, and why, in words for people; empty if all parts answer."""
    cpu_waited_s: float = 0.0
    """Seconds in which processes of this machine waited for a CPU, since this process of the deployer first saw
    instances of the starting release.
    """
    waits_for: str = ""
    """Reason why the proxy has not answered, or why the rollout is not yet open; else empty."""
    refused: str = ""
    """Reason why the proxy refuses the route, so that waiting does not help; empty if the proxy accepts it."""
    fixed_memory: frozenset[str] = frozenset()
    """Ids of the instances whose memory limit the driver cannot change while they run."""
    memory_refused: Mapping[str, int] = field(default_factory=dict)
    """Instance id → memory limit in bytes that the driver refused within the last 30 s."""
    facts_digest: str = ""
    """Digest of the addresses and secrets of the platform that new instances get as variables."""
    may_replace: bool = True
    """False if the environment must not now replace instances that are unhealthy or have outdated variables, because
    other environments are replacing theirs.
    """

    def route(self, instance_id: str) -> RouteState | None:
        """Returns the state of the instance's route by the proxy's last answer: ABSENT if the answer does not name the
        instance, None if there is no answer.
        """
        return None if self.routes is None else self.routes.get(instance_id, RouteState.ABSENT)

    def only(self, state: ReleaseState) -> Release | None:
        """Returns the environment's release in `state`, which must be a state that one release at most can have, such
        as live; None if there is none.
        """
        return next((release for release in self.releases.values() if release.state is state), None)

    def of(self, release: Release) -> list[Instance]:
        """Returns the release's instances, oldest first."""
        return [instance for instance in self.instances.values() if instance.release == release.id]

    def last_seen(self, instance: Instance) -> str:
        """Returns what is known of an instance that is not ready yet, in words for people: the result of its last
        probe, or that it was not started or probed yet.
        """
        if instance.id not in self.statuses:
            return "the engine has not started it yet"
        health = self.health.get(instance.id)
        return health.detail if health is not None else "it was not probed yet"

    def passes(self, instance: Instance) -> bool:
        """Returns True if the instance's last probe succeeded."""
        health = self.health.get(instance.id)
        return health is not None and health.misses == 0


def observe(world: World, limits: ObservationLimits, now: datetime) -> list[Change]:
    """Returns the changes that happened to instances by themselves: crashes, health, new addresses, completed stops."""
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
    """Returns the state into which the instance has come by itself, by its status and its probes, and the reason; None
    if its state stays. (When a starting instance becomes ready, `plan.py` decides.)
    """
    status, health = world.statuses.get(instance.id), world.health.get(instance.id)
    if instance.id in world.start_errors:
        return S.FAILED, world.start_errors[instance.id]
    if status is None and instance.state is S.STARTING and instance.release in world.unusable:
        return S.STOPPED, world.unusable[instance.release]  # no fault of the app
    if status is None:
        if instance.id in world.forgotten:
            return S.STOPPED, "the platform was stopped, and the engine does not know it any more"
        # A starting instance without a process has yet to be started; the engine must know any other instance.
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
    """Returns the state `failed` and the reason for an instance of a live release that has not become ready in time;
    else None. (For instances of a starting release, `ready_deadline.py` decides.)
    """
    release = world.releases[instance.release]
    limit_s, age_s = release.manifest.run.ready_within, (now - instance.created_at).total_seconds()
    more_s = discount_s(health.cpu_waited_s, age_s)
    if release.state is ReleaseState.STARTING or age_s - more_s < limit_s:
        return None
    return S.FAILED, over_time("ready", limit_s, health.detail, more_s)


def discount_s(cpu_waited_s: float, waited_s: float) -> float:
    """Returns the seconds of a wait of `waited_s` that do not count: three quarters of `cpu_waited_s`, the seconds in
    which processes of this machine waited for a CPU. A wait is thus at most four times as long.
    """
    return CROWDED_DISCOUNT * min(cpu_waited_s, waited_s)


def over_time(what: str, limit_s: float, seen: str, more_s: float) -> str:
    """Returns the reason for the end of an instance that was not `what` ("ready" or "in the route") within `limit_s`
    seconds. `seen` is what was seen of it last, in words for people; `more_s` are the seconds that did not count.
    """
    more = f"; it was given {more_s:.0f} s more, as the CPU was short" if more_s >= 1.5 else ""
    return f"not {what} within {limit_s:g} s: {seen}{more}"


def _memory_after_kill(world: World, instance: Instance) -> int | None:
    """Returns the memory limit in bytes for the replacement of an instance that was killed at its own limit; None if
    something else ended the instance, or if its limit is the highest allowed.
    """
    status = world.statuses.get(instance.id)
    was_killed = status is not None and status.oom_killed
    return memory_after_kill(instance.memory, _max_memory(world, instance)) if was_killed else None


def _max_memory(world: World, instance: Instance) -> int:
    return world.releases[instance.release].manifest.resources.max_memory


def routes_but(unhealthy: Collection[str], world: World) -> dict[str, RouteState] | None:
    """Returns instance id → state of its route, derived from the proxy's answer that nothing is missing but the health
    of the instances `unhealthy`. These count as absent and all other ready instances as routable, so that an unhealthy
    instance does not delay a release. Draining instances count as still having requests. Returns None if `unhealthy` is
    empty.
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
    """Returns True if a failure of the instance now counts against its release: while the release starts, and for
    `watch_s` after it went live.
    """
    release = world.releases[instance.release]
    if release.state is ReleaseState.LIVE and release.live_at is not None:
        return now - release.live_at <= timedelta(seconds=limits.watch_s)
    return release.state is ReleaseState.STARTING


def statuses_of(stored: World, statuses: Mapping[str, InstanceStatus]) -> dict[str, InstanceStatus]:
    """Returns those of `statuses` (from the driver) that belong to instances recorded in `stored`. Leaves out processes
    and containers that run under a recorded id but belong to another release or artifact.
    """
    found = {each: status for each, status in statuses.items() if each in stored.instances}
    releases = {each: stored.releases[stored.instances[each].release] for each in found}
    return {each: status for each, status in found.items() if status.is_of(releases[each].id, releases[each].artifact)}
