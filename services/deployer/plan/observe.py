"""What became of the instances: from process states and probes to changes of state. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from services.deployer.drivers.driver import InstanceStatus
from services.deployer.plan.action import Change, MoveInstance, NoteAddress, NoteEnd, WantMemory
from services.deployer.releases.environment import Override, desired
from services.deployer.releases.instance import RUNNING, Instance
from services.deployer.releases.out_of_memory import kill_reason, memory_after_kill
from services.deployer.releases.release import Release
from shared.models import InstanceState, ReleaseState
from shared.proxy_models import RouteState

S = InstanceState
MISSES_ALLOWED = 2


@dataclass(frozen=True)
class ObservationLimits:
    """Seconds; see config.py."""

    ready_deadline_s: float
    watch_s: float
    unhealthy_kept_s: float


@dataclass(frozen=True)
class InstanceHealth:
    """Of the probes of this deployer process. `misses`: in a row, 0 if the last one was well."""

    misses: int
    detail: str


@dataclass(frozen=True)
class World:
    """All that is known of one environment. What is not known is not there: no data is neither good nor bad news.

    `routes` is None unless the proxy's last answer is younger than the registry's last change; an instance that the
    answer does not name is absent. `stopped`: instances of which this process knows that nothing runs any more.
    `checked`: what was found to keep a release's instances from being started, empty if nothing was.
    `waits_for`: why the proxy's answer is missing; `refused`: why it will not come by waiting. `fixed_memory`:
    instances whose limit the engine cannot change; `memory_refused`: what it would not change it to, a short while ago.
    `told`: digest of what the platform tells instances about itself now.
    """

    releases: Mapping[str, Release]
    instances: Mapping[str, Instance]
    override: Override = field(default_factory=Override)
    published: frozenset[str] = frozenset()
    statuses: Mapping[str, InstanceStatus] = field(default_factory=dict)
    start_errors: Mapping[str, str] = field(default_factory=dict)
    stopped: frozenset[str] = frozenset()
    health: Mapping[str, InstanceHealth] = field(default_factory=dict)
    routes: Mapping[str, RouteState] | None = None
    checked: Mapping[str, str] = field(default_factory=dict)
    waits_for: str = ""
    refused: str = ""
    fixed_memory: frozenset[str] = frozenset()
    memory_refused: Mapping[str, int] = field(default_factory=dict)
    told: str = ""

    def route(self, instance_id: str) -> RouteState | None:
        """None: not known."""
        return None if self.routes is None else self.routes.get(instance_id, RouteState.ABSENT)

    def only(self, state: ReleaseState) -> Release | None:
        """The release in that state, of which there is one at a time (starting, live)."""
        return next((release for release in self.releases.values() if release.state is state), None)

    def of(self, release: Release) -> list[Instance]:
        """The release's instances, oldest first."""
        return [instance for instance in self.instances.values() if instance.release == release.id]

    def passes(self, instance: Instance) -> bool:
        """Whether its last probe was well."""
        health = self.health.get(instance.id)
        return health is not None and health.misses == 0


def observed(world: World, limits: ObservationLimits, now: datetime) -> list[Change]:
    """The changes that the instances went through by themselves."""
    return [change for instance in world.instances.values() for change in _of_one(world, instance, limits, now)]


def _of_one(world: World, instance: Instance, limits: ObservationLimits, now: datetime) -> Iterator[Change]:
    if instance.state in RUNNING:
        status = world.statuses.get(instance.id)
        if status is not None and status.address not in ("", instance.address):
            yield NoteAddress(instance.id, status.address)
        if (end := _end(world, instance, limits, now)) is not None:
            state, reason = end
            fault = state in (S.FAILED, S.UNHEALTHY) and _counts(world, instance, limits, now)
            if fault and (memory := _remedy(world, instance)) is not None:
                fault = False
                if memory > desired(world.override, world.releases[instance.release].manifest.resources).memory:
                    yield WantMemory(instance.release, memory)
            yield MoveInstance(instance.id, state, reason, fault)
    elif instance.id in world.stopped and instance.ended_at is None:
        if instance.state is S.DRAINING:
            yield MoveInstance(instance.id, S.STOPPED, instance.reason)
        yield NoteEnd(instance.id)


def _end(
    world: World, instance: Instance, limits: ObservationLimits, now: datetime
) -> tuple[InstanceState, str] | None:
    """The state that it is in by now, if that is another one than what is stored. Readiness is decided by the plan."""
    status, health = world.statuses.get(instance.id), world.health.get(instance.id)
    if instance.id in world.start_errors:
        return S.FAILED, world.start_errors[instance.id]
    if status is None:
        # A starting one without a process is to be started; any other one should be known to the engine.
        return None if instance.state is S.STARTING else (S.FAILED, "the engine does not know it any more")
    if not status.running and status.interrupted:
        return S.STOPPED, "the platform or the machine was stopped"
    if status.oom_killed:
        return S.FAILED, kill_reason(instance.memory, _max_memory(world, instance))
    if not status.running:
        return S.FAILED, "it ended" if status.exit_code is None else f"it ended with exit code {status.exit_code}"
    if health is None:
        return None
    if instance.state is S.STARTING and health.misses:
        late = now - instance.created_at >= timedelta(seconds=limits.ready_deadline_s)
        return (S.FAILED, f"not ready within {limits.ready_deadline_s:g} s: {health.detail}") if late else None
    if instance.state is S.READY and health.misses > MISSES_ALLOWED:
        return S.UNHEALTHY, f"{health.misses} probes in a row missed: {health.detail}"
    if instance.state is S.UNHEALTHY and health.misses == 0:
        return S.READY, "its health is back"
    return None


def _remedy(world: World, instance: Instance) -> int | None:
    """The memory with which it may do what it was killed for, bytes."""
    status = world.statuses.get(instance.id)
    was_killed = status is not None and status.oom_killed
    return memory_after_kill(instance.memory, _max_memory(world, instance)) if was_killed else None


def _max_memory(world: World, instance: Instance) -> int:
    return world.releases[instance.release].manifest.resources.max_memory


def _counts(world: World, instance: Instance, limits: ObservationLimits, now: datetime) -> bool:
    """Whether a failure now speaks against the release, and not only against this instance."""
    release = world.releases[instance.release]
    if release.state is ReleaseState.LIVE and release.live_at is not None:
        return now - release.live_at <= timedelta(seconds=limits.watch_s)
    return release.state is ReleaseState.STARTING
