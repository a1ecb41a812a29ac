"""Carries out the background work of one environment, and keeps the results as facts for its next plan."""

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn

from services.deployer.drivers.driver import (
    ArtifactUnusable,
    Driver,
    DriverError,
    InstanceSpec,
    MachineShort,
    NoAnswer,
    UnknownInstance,
    Unsupported,
    VolumeMount,
)
from services.deployer.failures.failure_evidence import unforeseen
from services.deployer.plan import action
from services.deployer.plan.action import Work
from services.deployer.plan.observe import WAITS_FOR_PROXY, World, routes_but
from services.deployer.reconcile.proxy_client import NotYet, Proxy, ProxyRefused
from services.deployer.releases.environment import AppFacts, EnvironmentId, desired, sync_body
from services.deployer.releases.instance import Instance
from services.deployer.releases.release import ENDED, Release, leading
from services.deployer.releases.rollout_request import rollout_request
from services.deployer.store import Store
from shared.models import Environment, ReleaseState
from shared.proxy_models import RolloutRequest, RouteState
from shared.runtime.keyed_tasks import RETRY_S, KeyedTasks
from shared.store import RedisError, redis_words

log = logging.getLogger(__name__)

SYNC = "sync"


@dataclass(frozen=True)
class WorkContext:
    """Holds the clients and settings for the background work of all environments."""

    store: Store
    driver: Driver
    proxy: Proxy
    facts: AppFacts
    grace_s: float
    """Seconds between SIGTERM and SIGKILL when an instance is stopped."""
    domain: str
    """Domain under which each app has its default host, `<app>.<domain>`."""
    auto_rollback: Callable[[str], Awaitable[None]]
    """Function that creates a release of the last good build, to replace the faulty release with the given id."""
    follow_rebuild: Callable[[str], Awaitable[None]]
    """Function that has the artifact of the live release with the given id rebuilt, or checks how far that is."""
    poll_s: float = 0.05
    """Seconds between two syncs of the proxy while it answers."""
    rebuild_look_s: float = 5.0
    """Seconds between two looks at a rebuild."""
    memory_retry_s: float = 30.0
    """Seconds until a refused change of a memory limit is tried again."""
    short_retry_s: float = 3.0
    """Seconds until a start is tried again for which the machine had no room."""


class WorkExecutor:
    """Runs items of background work, none of them twice at the same time. Three callbacks store results:
    `on_opened(release, refusal)` and `on_aborted(release)` the proxy's answer about a rollout, `on_resized(instance,
    memory, refusal)` the result of changing a memory limit (in bytes). An empty `refusal` means success. `wake` is
    called after each item, so that the environment is planned again."""

    def __init__(
        self,
        environment_id: EnvironmentId,
        context: WorkContext,
        wake: Callable[[], None],
        on_opened: Callable[[str, str], Awaitable[None]],
        on_aborted: Callable[[str], Awaitable[None]],
        on_resized: Callable[[str, int, str], Awaitable[None]],
    ) -> None:
        self.start_errors: dict[str, str] = {}
        self.unusable: dict[str, str] = {}
        self.stopped: set[str] = set()
        self.routes: Mapping[str, RouteState] | None = None
        self.checked: dict[str, str] = {}
        self.waits_for = ""
        self.proxy_is_away = False
        self.engine_away = ""
        self.refused = ""
        self.fixed_memory: set[str] = set()
        self._memory_refused: dict[str, tuple[int, float]] = {}
        self._environment_id = environment_id
        self._context = context
        self._on_opened = on_opened
        self._on_aborted = on_aborted
        self._on_resized = on_resized
        self._tasks = KeyedTasks(str(environment_id), wake)
        self._registry_version = 0

    def registry_changed(self) -> None:
        """Discards the proxy's last answer and cancels a running sync, since both are about an older state of the
        registry.
        """
        self._registry_version += 1
        self._tasks.cancel(SYNC)
        self.routes, self.refused = None, ""

    @property
    def away(self) -> str:
        """Returns which part of the platform does not answer, and why, in words for people; empty if all do."""
        if self.engine_away:
            return f"waits for the engine: {self.engine_away}"
        return self.waits_for if self.proxy_is_away else ""

    def forget(self, instance_id: str) -> None:
        self.stopped.discard(instance_id)
        self.start_errors.pop(instance_id, None)
        self.fixed_memory.discard(instance_id)
        self._memory_refused.pop(instance_id, None)

    def memory_refused(self) -> dict[str, int]:
        """Returns instance id → memory limit in bytes, if it was refused within the last `memory_retry_s` seconds."""
        late = time.monotonic() - self._context.memory_retry_s
        return {each: memory for each, (memory, at) in self._memory_refused.items() if at > late}

    def next_try_at(self) -> float:
        """Returns the time (monotonic seconds) at which work that pauses after a failure, or a refused memory limit,
        can be tried again; infinity if there is neither."""
        now = time.monotonic()
        refused = (at + self._context.memory_retry_s for _, at in self._memory_refused.values())
        return min(self._tasks.next_pause_end(), *(at for at in refused if at > now), math.inf)

    async def close(self) -> None:
        await self._tasks.close()

    def start(self, work: Iterable[Work], world: World) -> None:
        """Starts each item of work, unless it already runs or pauses after a failure."""
        for item in work:
            match item:
                case action.Check(release_id):
                    self._tasks.start(item, partial(self._check, world.releases[release_id], world))
                case action.StartInstance(instance_id):
                    self._tasks.start(item, partial(self._run, world.instances[instance_id], world))
                case action.StopInstance(instance_id):
                    # Otherwise a start that still runs would complete after the stop, when the instance counts as gone.
                    if not self._tasks.runs(action.StartInstance(instance_id)):
                        self._tasks.start(item, partial(self._stop, instance_id))
                case action.SetMemory(instance_id, memory):
                    self._tasks.start(("memory", instance_id), partial(self._set_memory, instance_id, memory))
                case action.SyncProxy():
                    pause_s = RETRY_S if self.waits_for else self._context.poll_s
                    self._tasks.start(SYNC, partial(self._sync, world), pause_s=pause_s)
                case action.OpenRollout(release_id):
                    request = rollout_request(world.releases[release_id], world.override)
                    self._tasks.start(item, partial(self._open_rollout, request), pause_s=RETRY_S)
                case action.AbortRollout(release_id):
                    self._tasks.start(item, partial(self._abort_rollout, world.releases[release_id]), pause_s=RETRY_S)
                case action.AutoRollback(release_id):
                    self._tasks.start(item, partial(self._context.auto_rollback, release_id), pause_s=RETRY_S)
                case action.FollowRebuild(release_id):
                    self.unusable.pop(release_id, None)  # it is stored, and found out anew when it is not any more
                    follow = partial(self._context.follow_rebuild, release_id)
                    self._tasks.start(item, follow, pause_s=self._context.rebuild_look_s)

    async def _check(self, release: Release, world: World) -> None:
        try:
            memory = desired(world.override, release.manifest.resources).memory
            await self._context.driver.preflight(self._spec(release, f"{release.id}-1", memory, world))
        except NoAnswer as error:
            await self._wait_for_engine(error)
        except DriverError as error:
            self.checked[release.id] = str(error)
        except Exception as error:
            self.checked[release.id] = unforeseen(f"the check of {release.id}", error)
        else:
            self.checked[release.id] = ""
        self.engine_away = ""

    async def _run(self, instance: Instance, world: World) -> None:
        if world.override.problem:
            self.start_errors[instance.id] = world.override.problem
            return
        release = world.releases[instance.release]
        try:
            await self._context.driver.start(self._spec(release, instance.id, instance.memory, world))
        except NoAnswer as error:
            await self._wait_for_engine(error)
        except ArtifactUnusable as error:
            is_live = release.state is ReleaseState.LIVE
            (self.unusable if is_live else self.start_errors)[release.id if is_live else instance.id] = str(error)
        except DriverError as error:
            self.start_errors[instance.id] = str(error)
        except Exception as error:  # a repetition would fail in the same way
            self.start_errors[instance.id] = unforeseen(f"the start of {instance.id}", error)
        self.engine_away = ""

    async def _wait_for_engine(self, error: NoAnswer) -> NoReturn:
        self.engine_away = str(error)
        if isinstance(error, MachineShort):  # of which each try costs something
            await asyncio.sleep(self._context.short_retry_s)
        raise error

    def _spec(self, release: Release, instance_id: str, memory: int, world: World) -> InstanceSpec:
        """Returns the description of an instance of the release, for the driver. `memory` is its limit in bytes."""
        app, environment = self._environment_id.app, self._environment_id.environment
        return InstanceSpec(
            id=instance_id,
            artifact=release.artifact,
            command=release.manifest.run.command or "",
            environment=self._context.facts.environment_of(
                self._environment_id, release.id, release.commit, world.override.all_variables()
            ),
            memory=memory,
            port=release.manifest.run.port,
            volumes=tuple(VolumeMount(app, environment, each.name, each.path) for each in release.manifest.volumes),
            is_new=release.state is ReleaseState.STARTING,
        )

    async def _stop(self, instance_id: str) -> None:
        try:
            await self._context.driver.stop(instance_id, self._context.grace_s)
        except UnknownInstance:
            log.info("%s is not known to the engine, so there is nothing to stop", instance_id)
        self.stopped.add(instance_id)

    async def _set_memory(self, instance_id: str, memory: int) -> None:
        try:
            await self._context.driver.set_memory(instance_id, memory)
        except Unsupported:
            self.fixed_memory.add(instance_id)
        except NoAnswer:
            raise
        except DriverError as error:
            await self._on_resized(instance_id, memory, str(error))
            self._memory_refused[instance_id] = memory, time.monotonic()
        else:
            await self._on_resized(instance_id, memory, "")
            self._memory_refused.pop(instance_id, None)

    async def _sync(self, world: World) -> None:
        version = self._registry_version
        waits_for = refused = ""
        routes: Mapping[str, RouteState] | None = None
        body, is_away = None, False
        try:
            body = await self._sync_body(world)
            routes = await self._context.proxy.sync(self._environment_id.app, body) if body else None
        except NotYet as problem:
            waits_for, is_away = f"{WAITS_FOR_PROXY}{problem}", not problem.unhealthy
            routes = routes_but(problem.unhealthy, world)
        except ProxyRefused as problem:
            refused = waits_for = f"the proxy refuses the route: {problem}"
            # The proxy never refuses an app's own default host, once the app has a route.
            if problem.is_conflict and body is not None and len(body["hosts"]) == 1:
                routes = {}
        except RedisError as error:
            waits_for, is_away = f"waits for Redis: {redis_words(error)}", True
        if version == self._registry_version:
            self.routes, self.waits_for, self.refused = routes, waits_for, refused
            self.proxy_is_away = is_away

    async def _sync_body(self, world: World) -> dict[str, Any] | None:
        """Returns the body of a sync request for the proxy; None if the environment has no release. It names the hosts
        of production's release; if production has none, those of this environment's. If neither is starting or live, it
        names only the app's default host."""
        own = leading(world.releases.values())
        production = None
        if self._environment_id.environment is not Environment.PRODUCTION:
            stored = await self._context.store.load(EnvironmentId(self._environment_id.app, Environment.PRODUCTION))
            production = leading(stored.releases.values())
        claims = next((each for each in (production, own) if each is not None and each.state not in ENDED), None)
        if own is None:
            return None
        hosts = claims.manifest.hosts if claims is not None else []
        return sync_body(hosts, own.manifest, self._environment_id.app, self._context.domain)

    async def _open_rollout(self, request: RolloutRequest) -> None:
        try:
            await self._context.proxy.open_rollout(self._environment_id.app, request)
        except NotYet as problem:
            self.waits_for, self.proxy_is_away = f"waits for the proxy to open the rollout: {problem}", True
        except ProxyRefused as problem:
            await self._on_opened(request.release, str(problem))
        else:
            self.waits_for, self.proxy_is_away = "", False
            await self._on_opened(request.release, "")

    async def _abort_rollout(self, release: Release) -> None:
        try:
            await self._context.proxy.abort_rollout(release.app, release.id, release.reason)
        except NotYet as problem:
            log.info("the rollout of %s is still to be aborted: %s", release.id, problem)
        except ProxyRefused as problem:
            log.info("the rollout of %s needs no abort: %s", release.id, problem)
            await self._on_aborted(release.id)
        else:
            await self._on_aborted(release.id)
