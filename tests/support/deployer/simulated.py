"""An environment simulated by chance: the real plan, work and apply, on an engine and a proxy whose answers come late
or get lost, with apps that crash, variables that change, orders at any time, and a deployer that dies.
"""

import random
from datetime import datetime

from services.deployer.drivers.driver import InstanceStatus
from services.deployer.plan.action import Change, Check, MoveRelease, StartInstance, StopInstance, SyncProxy, Work
from services.deployer.plan.apply_changes import apply
from services.deployer.plan.observe import InstanceHealth, World
from services.deployer.plan.plan import plan
from services.deployer.plan.plan_work import plan_work
from services.deployer.plan.registry_diff import to_delete, to_put
from services.deployer.releases.environment import Override
from services.deployer.releases.instance import Instance
from services.deployer.releases.release import Release
from shared.manifest import Manifest
from shared.models import InstanceRecord, InstanceState, ReleaseState
from shared.proxy_models import RouteState
from tests.support.deployer.fakes import LIMITS, a_failure, a_release, after

ROUNDS = 50


class Simulation:
    """`violations`: where two instances had one volume, or one was stopped while visitors were sent to it."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.now_s = 0.0
        self.violations: list[str] = []
        self.releases: dict[str, Release] = {}
        self.instances: dict[str, Instance] = {}
        self.processes: dict[str, bool] = {}  # whether it runs
        self.bad: set[str] = set()
        self.ill: set[str] = set()
        self._override = Override()
        self._registry: dict[str, InstanceRecord] = {}
        self._envoy: dict[str, RouteState] = {}
        self._forget()

    @property
    def now(self) -> datetime:
        return after(self.now_s)

    def create_release(self, *, volumes: bool, bad: bool) -> Release:
        """A release that waits; the instances of a bad one end at once."""
        number = len(self.releases) + 1
        given = [{"name": "data", "path": "/data"}] if volumes else []
        manifest = Manifest.model_validate({"app": "notes", "run": {"command": "run"}, "volumes": given})
        release = a_release(number, ReleaseState.PENDING, manifest=manifest, created_at=self.now, live_at=None)
        self.releases[release.id] = release
        if bad:
            self.bad.add(release.id)
        return release

    def happen(self) -> None:
        """One thing, whatever comes next."""
        kind = self.chance.choices(
            ["reconcile", "begin", "finish", "crash", "fall ill", "restart", "order", "variables", "retire"],
            [30, 20, 30, 2, 2, 2, 3, 1, 1],
        )[0]
        self.now_s += self.chance.choice([0, 0.1, 1, 5])
        match kind:
            case "reconcile":
                self._reconcile()
            case "begin":
                self._begin()
            case "finish" if self._in_flight:
                self._finish(self.chance.choice(sorted(self._in_flight, key=str)))
            case "crash" if running := self.running():
                self.processes[self.chance.choice(running)] = False
            case "fall ill" if running := self.running():
                self.ill ^= {self.chance.choice(running)}
            case "restart":
                for piece in sorted(self._in_flight, key=str):
                    if self.chance.random() < 0.5:
                        self._finish(piece)
                self._forget()
            case "order":
                self.create_release(volumes=self.chance.random() < 0.8, bad=self.chance.random() < 0.3)
            case "variables":
                self._override = Override(variables={"A": str(self.now_s)})
            case "retire":
                for release in self.releases.values():
                    if release.state is ReleaseState.STARTING and release.switched_at is None:
                        self._apply([MoveRelease(release.id, ReleaseState.RETIRED, "by order")], self._world())
                        break

    def settle(self) -> None:
        """Everything comes to its end, and nothing new happens."""
        self.ill.clear()
        for _ in range(400):
            self.now_s += 1
            self._reconcile()
            self._begin()
            for piece in sorted(self._in_flight, key=str):
                self._finish(piece)

    def running(self) -> list[str]:
        return [each for each, runs in self.processes.items() if runs]

    def served_by(self) -> list[str]:
        """The releases that visitors get."""
        routable = [each for each, route in self._envoy.items() if route is RouteState.ROUTABLE]
        return sorted({self.instances[each].release for each in routable if self.processes[each]})

    def _forget(self) -> None:
        self._routes: dict[str, RouteState] | None = None
        self._stopped: set[str] = set()
        self._checked: dict[str, str] = {}
        self._in_flight: dict[Work, int] = {}
        self._version = 0

    def _world(self) -> World:
        statuses = {
            each: InstanceStatus(each, f"127.0.0.1:{20_000 + n}", runs, after(0), None if runs else 3)
            for n, (each, runs) in enumerate(self.processes.items())
        }
        health = {each: InstanceHealth(3 if each in self.ill else 0, "well") for each in self.running()}
        return World(
            releases=dict(self.releases),
            instances=dict(self.instances),
            override=self._override,
            published=frozenset(self._registry),
            statuses={each: status for each, status in statuses.items() if each in self.instances},
            stopped=frozenset(self._stopped),
            health=health,
            routes=self._routes,
            checked=dict(self._checked),
        )

    def _reconcile(self) -> None:
        """Carries out a plan as the reconciler does, and sometimes only half of it."""
        for _ in range(ROUNDS):
            world = self._world()
            if changes := plan(world, LIMITS, self.now):
                self._apply(changes, world)
                continue
            records = to_put(world, list(self._registry.values()))
            self._registry |= {record.id: record for record in records}
            if not records:
                break
            self._changed()
        else:
            raise AssertionError(f"does not settle: {changes}")
        for each in to_delete(world, list(self._registry.values())):
            del self._registry[each]

    def _changed(self) -> None:
        self._version += 1
        self._routes = None

    def _apply(self, changes: list[Change], world: World) -> None:
        commit = apply(changes, world, {each: a_failure(each) for each in self.instances}, self.now)
        self.releases |= commit.releases
        self.instances |= commit.instances
        for dropped in commit.dropped:
            del self.instances[dropped.id]
        if any(isinstance(change, MoveRelease) for change in changes):
            self._changed()

    def _begin(self) -> None:
        for piece in plan_work(self._world()):
            late = (
                isinstance(piece, StopInstance) and StartInstance(piece.instance) in self._in_flight
            )  # as the executor does
            if not late:
                self._in_flight.setdefault(piece, self._version)

    def _finish(self, piece: Work) -> None:
        version = self._in_flight.pop(piece)
        match piece:
            case Check(release):
                self._checked[release] = ""
            case StartInstance(instance):
                self._run(instance)
            case StopInstance(instance):
                if self.processes.get(instance):
                    if self._envoy.get(instance, RouteState.ABSENT) is not RouteState.ABSENT:
                        self.violations.append(f"{instance} was stopped in the route")
                    self.processes[instance] = False
                self._stopped.add(instance)
            case SyncProxy():
                self._envoy = {record.id: self._route(record) for record in self._registry.values()}
                if version == self._version:
                    self._routes = dict(self._envoy)

    def _run(self, instance_id: str) -> None:
        if instance_id in self.processes:
            return
        release = self.releases[self.instances[instance_id].release]
        others = [each for each in self.running() if self.releases[self.instances[each].release].manifest.volumes]
        if release.manifest.volumes and others:
            self.violations.append(f"{instance_id} was started beside {others}")
        self.processes[instance_id] = release.id not in self.bad

    def _route(self, record: InstanceRecord) -> RouteState:
        if record.state is InstanceState.READY:
            return RouteState.ROUTABLE
        before = self._envoy.get(record.id)
        if record.state is InstanceState.DRAINING and before is not RouteState.ABSENT and self.chance.random() < 0.5:
            return RouteState.DRAINING
        return RouteState.ABSENT
