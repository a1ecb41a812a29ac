"""Carries out the plans of one environment: looks, stores the changes, tells the registry, keeps the work going."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from services.deployer.drivers.driver import DriverError, InstanceStatus
from services.deployer.plan.action import Change, MoveInstance, MoveRelease
from services.deployer.plan.apply_changes import Commit, apply
from services.deployer.plan.observe import ObservationLimits, World
from services.deployer.plan.plan import plan
from services.deployer.plan.plan_work import work
from services.deployer.plan.registry_diff import to_delete, to_put
from services.deployer.reconcile.prober import Prober, ProbeTarget
from services.deployer.reconcile.work_executor import WorkContext, WorkExecutor
from services.deployer.releases.environment import EnvironmentId
from services.deployer.releases.instance import RUNNING, resized
from services.deployer.releases.release import Release
from shared.manifest import size
from shared.models import TRACK_OF, InstanceRecord, InstanceState, ReleaseFailure, ReleaseState
from shared.registry import Registry

log = logging.getLogger(__name__)

LOG_LINES = 50
BUSY_S = 0.1
IDLE_S = 1.0
ROUNDS = 50


@dataclass(frozen=True)
class Setting:
    """What the runners share besides the tools of their work."""

    registry: Registry
    prober: Prober
    limits: ObservationLimits
    now: Callable[[], datetime]


class EnvironmentReconciler:
    """Of one environment. `lock` is held while its releases and instances are read and changed. `due_at`, monotonic:
    when to step again; to be set to infinity before a step, so that who sets it to 0 meanwhile is heard.
    """

    def __init__(
        self,
        place: EnvironmentId,
        setting: Setting,
        tools: WorkContext,
        lock: asyncio.Lock,
        wake: Callable[[EnvironmentId], None],
    ) -> None:
        self.place = place
        self.due_at = 0.0
        self._track = TRACK_OF[place.environment]
        self._setting = setting
        self._tools = tools
        self._lock = lock
        self._problem = ""
        self._worker = WorkExecutor(
            place, tools, lambda: wake(place), self._rollout_answered, self._rollout_aborted, self._resized
        )

    async def step(self, statuses: Mapping[str, InstanceStatus]) -> None:
        """Goes on until nothing is left to change; the work goes on in the background. Raises RedisError."""
        async with self._lock:
            for _ in range(ROUNDS):
                world, entries = await self._look(statuses)
                changes = plan(world, self._setting.limits, self._setting.now())
                if changes:
                    await self._commit(changes, world)
                elif not await self._publish(world, entries):
                    break
            else:
                raise RuntimeError(f"the plan of {self.place} does not settle: {changes}")
            self._tell(world.override.problem)
            self._follow(world)
            pieces = list(work(world))
            self._worker.keep_going(pieces, world)
            await self._unpublish(world, entries)
        is_busy = bool(pieces) or world.only(ReleaseState.STARTING) is not None
        self.due_at = min(self.due_at, time.monotonic() + (BUSY_S if is_busy else IDLE_S))

    async def close(self) -> None:
        """Ends the background work; the instances run on."""
        await self._worker.close()

    async def _look(self, statuses: Mapping[str, InstanceStatus]) -> tuple[World, list[InstanceRecord]]:
        stored = await self._tools.store.load(self.place)
        entries = await self._setting.registry.instances(self.place.app, self._track)
        world = World(
            releases=stored.releases,
            instances=stored.instances,
            override=stored.override,
            published=frozenset(entry.id for entry in entries),
            statuses={each: statuses[each] for each in stored.instances if each in statuses},
            start_errors=self._worker.start_errors,
            stopped=frozenset(self._worker.stopped),
            health=self._setting.prober.health(),
            routes=self._worker.routes,
            checked=self._worker.checked,
            waits_for=self._worker.waits_for,
            refused=self._worker.refused,
            fixed_memory=frozenset(self._worker.fixed_memory),
            memory_refused=self._worker.memory_refused(),
            told=self._tools.facts.digest(self.place.environment),
        )
        return world, entries

    async def _commit(self, changes: Sequence[Change], world: World) -> None:
        faults = [change for change in changes if isinstance(change, MoveInstance) and change.fault]
        failures = {change.instance: await self._failure(change, world) for change in faults}
        commit = apply(changes, world, failures, self._setting.now())
        for instance in commit.dropped:
            with contextlib.suppress(DriverError):  # its folder stays behind, which harms nobody
                await self._tools.driver.forget(instance.id)
            self._worker.forget(instance.id)
        await self._tools.store.commit(self.place, commit)
        begun = [c.release for c in changes if isinstance(c, MoveRelease) and c.state is ReleaseState.STARTING]
        if any(commit.releases[each].strategy == "stop-first" for each in begun):
            self._worker.registry_changed()  # so that the proxy is asked about the release before anything leaves
        for event in commit.events:
            log.info("%s %s: %s", event.id, event.type, event.reason)

    async def _failure(self, change: MoveInstance, world: World) -> ReleaseFailure:
        status, health = world.statuses.get(change.instance), world.health.get(change.instance)
        try:
            lines = await self._tools.driver.logs(change.instance, LOG_LINES)
        except DriverError as error:
            lines = [f"no log: {error}"]
        return ReleaseFailure(
            instance=change.instance,
            reason=change.reason,
            at=self._setting.now(),
            exit_code=status.exit_code if status else None,
            probe=health.detail if health else "",
            log=lines,
        )

    async def _publish(self, world: World, entries: Sequence[InstanceRecord]) -> bool:
        """Whether the registry said something else before."""
        records = to_put(world, entries)
        for record in records:
            await self._setting.registry.put_instance(self.place.app, self._track, record)
        if records:
            self._worker.registry_changed()
        return bool(records)

    async def _unpublish(self, world: World, entries: Sequence[InstanceRecord]) -> None:
        for instance_id in to_delete(world, entries):
            await self._setting.registry.delete_instance(self.place.app, self._track, instance_id)

    def _tell(self, problem: str) -> None:
        """Once: what runs is left alone, and nothing else would say so before an instance has to be started."""
        if problem and problem != self._problem:
            log.error("%s: %s", self.place, problem)
        self._problem = problem

    def _follow(self, world: World) -> None:
        targets = {}
        for instance in world.instances.values():
            if instance.state in RUNNING and instance.address:
                path = world.releases[instance.release].manifest.run.health
                targets[instance.id] = ProbeTarget(instance.address, path, instance.state is InstanceState.STARTING)
        self._setting.prober.follow(self.place, targets)

    async def _rollout_answered(self, release_id: str, refusal: str) -> None:
        async with self._lock:
            world, _ = await self._look({})
            release = world.releases.get(release_id)
            if release is None or release.state is not ReleaseState.STARTING:
                return
            if refusal:
                why = f"its rollout was refused: {refusal}"
                await self._commit([MoveRelease(release_id, ReleaseState.ROLLED_BACK, why)], world)
            else:
                await self._store_release(release.model_copy(update={"rollout_opened": True}))

    async def _rollout_aborted(self, release_id: str) -> None:
        async with self._lock:
            release = await self._tools.store.release(release_id)
            if release is not None:
                await self._store_release(release.model_copy(update={"abort_rollout": False}))

    async def _resized(self, instance_id: str, memory: int, refusal: str) -> None:
        async with self._lock:
            instance = (await self._tools.store.load(self.place)).instances.get(instance_id)
            if instance is None or instance.state not in RUNNING:
                return
            if refusal:
                changed = instance.model_copy(update={"memory_refusal": refusal})
            else:
                changed = resized(instance, memory, self._setting.now())
            log.info("%s: %s", instance_id, refusal or f"its memory limit is {size(memory)} now")
            await self._tools.store.commit(self.place, Commit(instances={instance_id: changed}))

    async def _store_release(self, release: Release) -> None:
        await self._tools.store.commit(self.place, Commit(releases={release.id: release}))
