"""Stand-ins for the deployer's outside, and builders of releases and instances."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from redis.asyncio import Redis

from services.deployer.drivers.driver import (
    ArtifactGone,
    DriverError,
    InstanceSpec,
    InstanceStatus,
    NoAnswer,
    RunningInstance,
    UnknownInstance,
    Unsupported,
    Usage,
    VolumeMount,
)
from services.deployer.drivers.memory_use import check_limit, check_machine
from services.deployer.plan.action import Change, Wait
from services.deployer.plan.observe import InstanceHealth, ObservationLimits, World
from services.deployer.plan.plan import plan
from services.deployer.reconcile.probe import ProbeTarget
from services.deployer.reconcile.prober import Prober
from services.deployer.releases.environment import NOTHING, EnvironmentId, Override, desired
from services.deployer.releases.instance import Instance
from services.deployer.releases.override_encryption import OverrideEncryption
from services.deployer.releases.release import Release, ReleaseTransition
from shared.events import STREAM
from shared.manifest import Manifest
from shared.models import (
    TRACK_OF,
    Artifact,
    Environment,
    Event,
    InstanceRecord,
    InstanceState,
    ReleaseFailure,
    ReleaseState,
)
from shared.proxy_models import InstanceRoute, RolloutRequest, RouteState
from shared.registry import Registry

T0 = datetime(2026, 1, 1, tzinfo=UTC)
ENCRYPTION = OverrideEncryption(["a key for tests"])
LIMITS = ObservationLimits(watch_s=10, unhealthy_kept_s=30)


def after(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def a_manifest(**resources: Any) -> Manifest:
    return Manifest.model_validate({"app": "notes", "run": {"command": "run"}, "resources": resources})


def with_volume(**changes: Any) -> Manifest:
    """A manifest with the volume `data`."""
    volume = {"name": "data", "path": "/data"}
    return Manifest.model_validate({"app": "notes", "run": {"command": "run"}, "volumes": [volume], **changes})


def a_release(number: int, state: ReleaseState = ReleaseState.LIVE, **changes: Any) -> Release:
    """`notes-r<number>` of build and commit <number>."""
    given: dict[str, Any] = {
        "id": f"notes-r{number}",
        "number": number,
        "app": "notes",
        "environment": Environment.PRODUCTION,
        "build": f"notes-{number}",
        "commit": f"{number:040x}",
        "artifact": Artifact(kind="directory", ref=f"/releases/notes-{number}", digest=f"sha256:{number}"),
        "manifest": a_manifest(),
        "state": state,
        "reason": "a reason",
        "history": [ReleaseTransition(state=state, reason="a reason", at=T0)],
        "created_at": T0,
        "clock_from": after(90),
        "live_at": T0 if state in (ReleaseState.LIVE, ReleaseState.RETIRED, ReleaseState.ROLLED_BACK) else None,
    }
    return Release.model_validate({**given, **changes})


def an_instance(release: Release, number: int, state: InstanceState = InstanceState.READY, **changes: Any) -> Instance:
    """`<release>-<number>`, without variables or secrets."""
    wanted = desired(Override(), release.manifest.resources)
    given: dict[str, Any] = {
        "id": f"{release.id}-{number}",
        "release": release.id,
        "app": release.app,
        "environment": release.environment,
        "commit": release.commit,
        "state": state,
        "reason": "a reason",
        "created_at": after(number),
        "changed_at": after(number),
        "address": f"127.0.0.1:{20_000 + number}",
        "memory": wanted.memory,
        "configuration": NOTHING,
    }
    return Instance.model_validate({**given, **changes})


def a_status(instance: Instance, **changes: Any) -> InstanceStatus:
    given: dict[str, Any] = {"id": instance.id, "address": instance.address, "running": True, "started_at": T0}
    return InstanceStatus(**{**given, **changes})


def a_failure(instance: str = "notes-r1-1") -> ReleaseFailure:
    return ReleaseFailure(
        instance=instance, reason="it ended with exit code 3", at=T0, exit_code=3, probe="", log=["boom"]
    )


def a_world(
    releases: Iterable[Release], instances: Iterable[Instance], *, routable: Iterable[str] = (), **facts: Any
) -> World:
    """All instances run; the proxy sends visitors to `routable`, all that is not starting is in the registry."""
    all_instances = list(instances)
    given: dict[str, Any] = {
        "statuses": {each.id: a_status(each) for each in all_instances},
        "published": frozenset(i.id for i in all_instances if i.state is not InstanceState.STARTING),
        "routes": dict.fromkeys(routable, RouteState.ROUTABLE),
    }
    return World(
        releases={release.id: release for release in releases},
        instances={instance.id: instance for instance in all_instances},
        **{**given, **facts},
    )


def acts(world: World, now: datetime) -> list[Change]:
    """The plan without what only says what a release waits for."""
    return [change for change in plan(world, LIMITS, now) if not isinstance(change, Wait)]


async def stored_events(redis: Redis) -> list[Event]:
    """Returns the events of the stream, oldest first."""
    entries: Any = await redis.xrange(STREAM)
    return [Event.model_validate_json(fields["event"]) for _, fields in entries]


class FakeDriver:
    """An engine in memory; what it runs outlives the driver objects' user. `started` counts real starts by id.
    An instance with volumes writes its id into each, and prints what is there; `violations`: two on one volume.
    `sets_memory`: whether it can change the limit of what runs; what it then was told is in `limits`. `working_set`:
    what every instance uses, bytes; `needs`: with less than that it is killed at once. `gone`: references of artifacts
    that are not there any more; `needed`: those that it was told to keep. `is_away`: it does not answer.
    `planted`: what others let run with the stack's marks; `removed`: the handles of what it was told to remove.
    """

    def __init__(self, *, sets_memory: bool = True) -> None:
        self.sets_memory = sets_memory
        self.working_set = 2**20
        self.needs = 0
        self.limits: dict[str, int] = {}
        self.gone: set[str] = set()
        self.needed: list[Artifact] = []
        self.is_away = False
        self.planted: list[RunningInstance] = []
        self.removed: list[str] = []
        self.started: list[str] = []
        self.stopped: list[str] = []
        self.on_stop: Callable[[str], None] = lambda instance_id: None
        self.on_end: Callable[[str | None], None] = lambda instance_id: None
        self.violations: list[str] = []
        self._volumes: dict[tuple[str, str, str], list[str]] = {}
        self._mounts: dict[str, tuple[VolumeMount, ...]] = {}
        self._statuses: dict[str, InstanceStatus] = {}
        self._logs: dict[str, list[str]] = {}

    async def preflight(self, spec: InstanceSpec) -> None:
        check_machine(spec)
        if self.is_away:
            raise NoAnswer("it does not answer")
        if spec.artifact.kind != "directory" or spec.artifact.ref in self.gone:
            raise ArtifactGone("its artifact is gone")

    async def start(self, spec: InstanceSpec) -> InstanceStatus:
        await self.preflight(spec)
        if spec.id in self._statuses and not self._statuses[spec.id].is_of(spec.release, spec.artifact):
            del self._statuses[spec.id]
        if spec.id not in self._statuses:
            self.started.append(spec.id)
            self._mounts[spec.id] = spec.volumes
            address = f"127.0.0.1:{20_000 + len(self.started)}"
            self._statuses[spec.id] = InstanceStatus(
                spec.id, address, True, T0, release=spec.release, artifact=spec.artifact.digest
            )
            self._logs[spec.id] = ["one", "two"] if not spec.volumes else self._written(spec)
            self.limits[spec.id] = spec.memory
            if spec.memory < self.needs:
                self.end(spec.id, 137, oom_kills=1)
            if spec.command == "exit 3":
                self.end(spec.id, 3)
        return self._statuses[spec.id]

    def _written(self, spec: InstanceSpec) -> list[str]:
        seen: list[str] = []
        for mount in spec.volumes:
            for other, status in self._statuses.items():
                if other != spec.id and status.running and mount in self._mounts[other]:
                    self.violations.append(f"{other} and {spec.id} on one volume")
            content = self._volumes.setdefault((mount.app, mount.environment, mount.name), [])
            content.append(spec.id)
            seen += content
        return seen

    def end(self, instance_id: str, exit_code: int, *, oom_kills: int = 0) -> None:
        """It ends by itself, or is killed at its limit."""
        self._statuses[instance_id] = replace(
            self._statuses[instance_id],
            running=False,
            exit_code=exit_code,
            oom_killed=oom_kills > 0,
            oom_kills=oom_kills,
        )
        self.on_end(instance_id)

    async def stop(self, instance_id: str, grace_s: float) -> None:
        if self._known(instance_id).running:
            self.on_stop(instance_id)
            self.stopped.append(instance_id)
            self.end(instance_id, 143)

    async def running(self) -> list[RunningInstance]:
        own = [each for each in self._statuses.values() if each.running]
        return [
            RunningInstance(each.id, each.id, release=each.release, artifact=each.artifact) for each in own
        ] + self.planted

    async def remove(self, found: RunningInstance, grace_s: float) -> None:
        self.removed.append(found.handle)
        if found in self.planted:
            self.planted.remove(found)
        elif found.id in self._statuses and self._statuses[found.id].running:
            await self.stop(found.id, grace_s)
            await self.forget(found.id)

    async def statuses(self, instance_ids: Iterable[str] | None = None) -> dict[str, InstanceStatus]:
        ids = self._statuses.keys() if instance_ids is None else set(instance_ids)
        return {each: status for each, status in self._statuses.items() if each in ids}

    async def logs(self, instance_id: str, lines: int) -> list[str]:
        self._known(instance_id)
        return self._logs[instance_id][-lines:]

    async def listening(self, instance_id: str) -> list[str] | None:
        return None

    async def usage(self, instance_ids: Iterable[str]) -> dict[str, Usage]:
        running = (self._statuses.get(each) for each in instance_ids)
        return {
            status.id: Usage(T0, self.limits[status.id], self.working_set, 0.1, 0, 1.5)
            for status in running
            if status and status.running
        }

    async def set_memory(self, instance_id: str, memory: int) -> None:
        if not self._known(instance_id).running:
            raise DriverError(f"{instance_id} does not run")
        if not self.sets_memory:
            raise Unsupported("no")
        if self.working_set > 0.8 * memory:
            raise DriverError(f"{instance_id} uses more")
        check_limit(instance_id, self.limits[instance_id], memory, self.working_set)
        self.limits[instance_id] = memory

    async def enforce(self) -> None:
        pass

    async def forget(self, instance_id: str) -> None:
        status = self._statuses.get(instance_id)
        if status is not None and status.running:
            raise DriverError("it runs")
        self._statuses.pop(instance_id, None)

    async def verify(self, artifact: Artifact) -> None:
        if self.is_away:
            raise NoAnswer("it does not answer")
        if artifact.ref in self.gone:
            raise ArtifactGone("it is gone")

    async def collect_garbage(self, needed: Collection[Artifact]) -> None:
        self.needed = list(needed)

    async def check(self) -> str | None:
        return "it does not answer" if self.is_away else None

    @contextmanager
    def watching_ends(self, on_end: Callable[[str | None], None]) -> Iterator[None]:
        self.on_end = on_end
        yield
        self.on_end = lambda instance_id: None

    def _known(self, instance_id: str) -> InstanceStatus:
        if instance_id not in self._statuses:
            raise UnknownInstance(instance_id)
        return self._statuses[instance_id]


class FakeProxy:
    """Routes as the registry says; a draining instance leaves at the second look. `violations`: where a release broke
    what none may break (an assertion here would end in a background job, and be logged, not seen). `stop_first`: it may
    have more draining than ready. `cut`: how many requests an instance that has left still had.
    """

    def __init__(self, registry: Registry, driver: FakeDriver) -> None:
        self.rollouts: list[str] = []
        self.aborted: list[str] = []
        self.removed: list[str] = []
        self.violations: list[str] = []
        self.stop_first = False
        self.cut: dict[str, int] = {}
        self._registry = registry
        self._in_route: set[str] = set()
        self._drained: set[str] = set()
        driver.on_stop = self._before_stop

    async def sync(self, app: str, body: Mapping[str, Any]) -> dict[str, InstanceRoute]:
        answer: dict[str, RouteState] = {}
        for environment in Environment:
            records = await self._registry.instances(app, TRACK_OF[environment])
            answer |= {record.id: self._route(record) for record in records}
            self._count([record.state for record in records if answer[record.id] is not RouteState.ABSENT])
        gone = {each for each, state in answer.items() if state is RouteState.ABSENT}
        return {
            each: InstanceRoute(route=state, cut=self.cut.get(each, 0) if each in gone else 0)
            for each, state in answer.items()
        }

    async def open_rollout(self, app: str, request: RolloutRequest) -> None:
        self.rollouts.append(request.release)

    async def abort_rollout(self, app: str, release: str, reason: str) -> None:
        self.aborted.append(release)

    async def remove_route(self, app: str) -> None:
        self.removed.append(app)

    def _route(self, record: InstanceRecord) -> RouteState:
        route = RouteState.ABSENT
        if record.state is InstanceState.READY:
            route = RouteState.ROUTABLE
        elif record.state is InstanceState.DRAINING and record.id not in self._drained:
            self._drained.add(record.id)
            route = RouteState.DRAINING
        (self._in_route.discard if route is RouteState.ABSENT else self._in_route.add)(record.id)
        return route

    def _count(self, states: list[InstanceState]) -> None:
        draining, ready = states.count(InstanceState.DRAINING), states.count(InstanceState.READY)
        if draining > ready and not self.stop_first:
            self.violations.append(f"{draining} draining and only {ready} ready")

    def _before_stop(self, instance_id: str) -> None:
        if instance_id in self._in_route:
            self.violations.append(f"{instance_id} was stopped while visitors were sent to it")


class FakeProber(Prober):
    """Finds everybody well."""

    def __init__(self) -> None:
        self._found: dict[str, InstanceHealth] = {}

    def follow(self, environment_id: EnvironmentId, targets: Mapping[str, ProbeTarget]) -> None:
        self._found = dict.fromkeys(targets, InstanceHealth(0, "well"))

    def health(self) -> Mapping[str, InstanceHealth]:
        return self._found
