"""Reconciles one environment: observes it, stores planned changes, updates the registry, and starts background work."""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from services.deployer.drivers.driver import DriverError, InstanceStatus
from services.deployer.failures.failure_evidence import failure_of, masked
from services.deployer.plan.action import Change, CreditClock, MoveInstance, MoveRelease
from services.deployer.plan.apply_changes import Commit, apply
from services.deployer.plan.observe import ObservationLimits, World, statuses_of
from services.deployer.plan.plan import plan, to_replace
from services.deployer.plan.plan_work import is_at_rest, plan_work
from services.deployer.plan.ready_deadline import credit_after_restart, keep_clock
from services.deployer.plan.registry_diff import to_delete, to_put
from services.deployer.reconcile.cpu_pressure import cpu_waited_s
from services.deployer.reconcile.probe import ProbeTarget
from services.deployer.reconcile.prober import Prober
from services.deployer.reconcile.replacement_turns import ReplacementTurns
from services.deployer.reconcile.work_executor import WorkContext, WorkExecutor
from services.deployer.releases.environment import EnvironmentId, health_host
from services.deployer.releases.environment_mask import environment_mask
from services.deployer.releases.instance import RUNNING, resized
from services.deployer.releases.release import Release
from shared.clock import none_ahead
from shared.manifest import health_check, size
from shared.models import TRACK_OF, InstanceRecord, InstanceState, ReleaseState
from shared.registry import Registry
from shared.store import RedisError

log = logging.getLogger(__name__)

BUSY_S = 1.0
RESTS_S = 20.0
ROUNDS = 50


@dataclass(frozen=True)
class ReconcileContext:
    """Holds what the reconcilers of all environments share, besides what background work needs (`WorkContext`)."""

    registry: Registry
    prober: Prober
    turns: ReplacementTurns
    limits: ObservationLimits
    now: Callable[[], datetime]


class EnvironmentReconciler:
    """Reconciles one environment; holds `lock` while it reads and changes releases and instances. Its next `step` is
    due at `due_at` (monotonic seconds). The caller sets that to infinity before it calls `step`, so that a wake-up
    during the step is not lost. Events wake the reconciler (`wake`). Without an event, an environment that needs no
    change is looked at again after 20 to 30 s, in case an event was lost, and any other one after 1 s, because time
    limits may have passed.
    """

    def __init__(
        self,
        environment_id: EnvironmentId,
        context: ReconcileContext,
        work_context: WorkContext,
        lock: asyncio.Lock,
        wake: Callable[[EnvironmentId], None],
    ) -> None:
        self.environment_id = environment_id
        self.due_at = 0.0
        self.instance_ids: Collection[str] | None = None
        """Ids of the instances at the last step; None before the first one."""
        self._track = TRACK_OF[environment_id.environment]
        self._context = context
        self._work_context = work_context
        self._lock = lock
        self._problem = ""
        self._redis_away_since: datetime | None = None
        self._has_looked = False
        self._forgotten: frozenset[str] = frozenset()
        self._pressure = "", 0.0
        self._executor = WorkExecutor(
            environment_id,
            work_context,
            lambda: wake(environment_id),
            self._rollout_answered,
            self._rollout_aborted,
            self._resized,
        )

    async def step(self) -> None:
        """Reconciles the environment once. If Redis does not answer, remembers since when, so that this time does not
        count for a starting release.
        """
        try:
            await self._step()
        except RedisError:
            self._redis_away_since = self._redis_away_since or self._context.now()
            raise

    async def _step(self) -> None:
        """Stores planned changes until there are none, then starts the background work. Raises RedisError, and
        DriverError if the driver cannot tell the statuses of instances.
        """
        if self.instance_ids is None:
            self.instance_ids = (await self._work_context.store.load(self.environment_id)).instances.keys()
        try:
            statuses = await self._work_context.driver.statuses(self.instance_ids)
        except DriverError as error:
            await self._wait_for_engine(error)
            raise
        async with self._lock:
            await self._give_time_back(statuses)
            for _ in range(ROUNDS):
                world, entries = await self._observe(statuses)
                self.instance_ids = world.instances.keys()
                changes = plan(world, self._context.limits, self._context.now())
                if changes:
                    await self._commit(changes, world)
                elif not await self._publish(world, entries):
                    break
            else:
                raise RuntimeError(f"the plan of {self.environment_id} does not settle: {changes}")
            self._log_problem(world.override.problem)
            self._update_probes(world)
            work = list(plan_work(world))
            self._executor.start(work, world)
            await self._unpublish(world, entries)
        # Random, so that environments that were woken together do not stay due together.
        wait_s = BUSY_S if work or not is_at_rest(world) else RESTS_S * random.uniform(1, 1.5)
        self.due_at = min(self.due_at, time.monotonic() + wait_s, self._executor.next_try_at())

    def sync_again(self) -> None:
        """Makes the next step send the app's host names to the proxy again, and ask for the states of its routes."""
        self._executor.registry_changed()

    async def close(self) -> None:
        """Ends the background work; instances go on running."""
        await self._executor.close()

    async def _observe(self, statuses: Mapping[str, InstanceStatus]) -> tuple[World, list[InstanceRecord]]:
        stored = await self._work_context.store.load(self.environment_id)
        entries = await self._context.registry.instances(self.environment_id.app, self._track)
        world = replace(
            stored,
            published=frozenset(entry.id for entry in entries),
            statuses=statuses_of(stored, statuses),
            forgotten=self._forgotten,
            start_errors=self._executor.start_errors,
            unusable=self._executor.unusable,
            stopped=frozenset(self._executor.stopped),
            health=self._context.prober.health(),
            routes=self._executor.routes,
            cut=self._executor.cut,
            checked=self._executor.checked,
            away=self._executor.away,
            cpu_waited_s=self._cpu_waited_s(stored),
            waits_for=self._executor.waits_for,
            refused=self._executor.refused,
            fixed_memory=frozenset(self._executor.fixed_memory),
            memory_refused=self._executor.memory_refused(),
            facts_digest=self._work_context.facts.digest(self.environment_id.environment),
        )
        is_needed = bool(to_replace(world, self._context.limits, self._context.now()))
        may_replace = self._context.turns.may_replace(self.environment_id, is_needed, time.monotonic())
        return replace(world, may_replace=may_replace), entries

    def _cpu_waited_s(self, stored: World) -> float:
        starting = stored.only(ReleaseState.STARTING)
        if starting is None or starting.clock_from is None:
            return 0.0
        if self._pressure[0] != (wait := f"{starting.id} {starting.instances_made}"):
            self._pressure = wait, cpu_waited_s()
        return cpu_waited_s() - self._pressure[1]

    async def _wait_for_engine(self, error: DriverError) -> None:
        """Records that a starting release waits for the driver's engine, so that the wait does not count
        toward its time limit. Without the statuses of instances, nothing else can be decided.
        """
        async with self._lock:
            stored = await self._work_context.store.load(self.environment_id)
            world = replace(stored, away=f"waits for the engine: {error}")
            starting = world.only(ReleaseState.STARTING)
            changes = [] if starting is None else list(keep_clock(world, starting, self._context.now()))
            if changes:
                await self._commit(changes, world)

    async def _give_time_back(self, statuses: Mapping[str, InstanceStatus]) -> None:
        """Subtracts from the waiting time of a starting release the time in which Redis did not answer or no deployer
        ran.
        """
        if self._has_looked and self._redis_away_since is None:
            return
        if not self._has_looked:
            await self._correct_times()
        world, _ = await self._observe(statuses)
        if not self._has_looked:
            ran = {i.id for i in world.instances.values() if i.state in (InstanceState.READY, InstanceState.UNHEALTHY)}
            self._forgotten = frozenset(ran - world.statuses.keys())
        starting, now, changes = world.only(ReleaseState.STARTING), self._context.now(), list[Change]()
        if starting is not None and not self._has_looked:
            changes += credit_after_restart(world, starting, now)
        elif starting is not None and starting.away_since is None and self._redis_away_since is not None:
            changes.append(CreditClock(starting.id, (now - self._redis_away_since).total_seconds()))
        if changes:
            await self._commit(changes, world)
        self._has_looked, self._redis_away_since = True, None

    async def _correct_times(self) -> None:
        """Sets stored times in the future to now: the clock was set back, which would prolong a back-off by as much."""
        stored, now = await self._work_context.store.load(self.environment_id), self._context.now()
        releases = {name: new for name, each in stored.releases.items() if (new := none_ahead(each, now)) != each}
        instances = {name: own for name, each in stored.instances.items() if (own := none_ahead(each, now)) != each}
        if releases or instances:
            log.warning("%s: stored times in the future are set to now", self.environment_id)
            await self._work_context.store.commit(self.environment_id, Commit(releases, instances))

    async def _commit(self, changes: Sequence[Change], world: World) -> None:
        faults = [change for change in changes if isinstance(change, MoveInstance) and change.fault]
        mask = environment_mask(world.override, self._work_context.facts, self.environment_id.environment)
        driver, now = self._work_context.driver, self._context.now()
        failures = {each.instance: await failure_of(each, world, driver, mask, now) for each in faults}
        commit = apply([masked(change, mask) for change in changes], world, failures, now)
        for instance in commit.dropped:
            with contextlib.suppress(DriverError):  # the instance's folder stays, which does no harm
                await self._work_context.driver.forget(instance.id)
            self._executor.forget(instance.id)
        await self._work_context.store.commit(self.environment_id, commit)
        begun = [c.release for c in changes if isinstance(c, MoveRelease) and c.state is ReleaseState.STARTING]
        if any(commit.releases[each].strategy == "stop-first" for each in begun):
            self._executor.registry_changed()  # so that the proxy is asked about the release before anything leaves
        for event in commit.events:
            log.info("%s %s: %s", event.id, event.type, event.reason)

    async def _publish(self, world: World, entries: Sequence[InstanceRecord]) -> bool:
        """Writes changed instances to the registry; returns True if there were any."""
        records = to_put(world, entries)
        for record in records:
            await self._context.registry.put_instance(self.environment_id.app, self._track, record)
        if records:
            self._executor.registry_changed()
        return bool(records)

    async def _unpublish(self, world: World, entries: Sequence[InstanceRecord]) -> None:
        for instance_id in to_delete(world, entries):
            await self._context.registry.delete_instance(self.environment_id.app, self._track, instance_id)

    def _log_problem(self, problem: str) -> None:
        """Logs why no instance can be started (`problem`; empty if one can), unless it was logged last."""
        if problem and problem != self._problem:
            log.error("%s: %s", self.environment_id, problem)
        self._problem = problem

    def _update_probes(self, world: World) -> None:
        targets = {}
        for instance in world.instances.values():
            if instance.state in RUNNING and instance.address:
                manifest = world.releases[instance.release].manifest
                host = health_host(manifest, self.environment_id.app, self._work_context.domain)
                is_new = instance.state is InstanceState.STARTING
                check = health_check(manifest.run.health)
                targets[instance.id] = ProbeTarget(instance.address, check, host, is_new)
        self._context.prober.follow(self.environment_id, targets)

    async def _rollout_answered(self, release_id: str, refusal: str) -> None:
        async with self._lock:
            world, _ = await self._observe({})
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
            release = await self._work_context.store.release(release_id)
            if release is not None:
                await self._store_release(release.model_copy(update={"abort_rollout": False}))

    async def _resized(self, instance_id: str, memory: int, refusal: str) -> None:
        async with self._lock:
            instance = (await self._work_context.store.load(self.environment_id)).instances.get(instance_id)
            if instance is None or instance.state not in RUNNING:
                return
            if refusal:
                changed = instance.model_copy(update={"memory_refusal": refusal})
            else:
                changed = resized(instance, memory, self._context.now())
            log.info("%s: %s", instance_id, refusal or f"its memory limit is {size(memory)} now")
            await self._work_context.store.commit(self.environment_id, Commit(instances={instance_id: changed}))

    async def _store_release(self, release: Release) -> None:
        await self._work_context.store.commit(self.environment_id, Commit(releases={release.id: release}))
