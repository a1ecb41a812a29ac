"""Assembles the deployer from its parts, by the settings, and runs it."""

import asyncio
import contextlib
import os
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from urllib.parse import urlsplit

import httpx
from fastapi import FastAPI

from services.deployer.api.lifecycle import lifecycle_router
from services.deployer.api.rest import router
from services.deployer.config import Settings
from services.deployer.drivers.docker.capabilities import ROOT_KEEPS
from services.deployer.drivers.docker.container import Stack
from services.deployer.drivers.driver import Driver, Volumes
from services.deployer.drivers.process.driver import ProcessDriver
from services.deployer.drivers.process.memory_cgroup import parent_for
from services.deployer.drivers.process.volume import FolderVolumes
from services.deployer.lifecycle.lifecycle_service import LifecycleService
from services.deployer.lifecycle.removal import Removal
from services.deployer.metrics import ProbeCollector
from services.deployer.plan.observe import ObservationLimits
from services.deployer.rebuild.rebuilder import Rebuilder
from services.deployer.reconcile.environment_reconciler import EnvironmentReconciler, ReconcileContext
from services.deployer.reconcile.kept_registry import KeptRegistry
from services.deployer.reconcile.prober import Prober
from services.deployer.reconcile.proxy_client import ProxyService
from services.deployer.reconcile.reconciler import Housekeeping, Reconciler
from services.deployer.reconcile.release_service import ReleaseService
from services.deployer.reconcile.replacement_turns import ReplacementTurns
from services.deployer.reconcile.strays import Strays
from services.deployer.reconcile.work_executor import WorkContext
from services.deployer.releases.environment import AppFacts, EnvironmentId
from services.deployer.releases.override_encryption import OverrideEncryption
from services.deployer.shutdown import ended_at
from services.deployer.store import Store
from shared.clock import now
from shared.config import secret_file
from shared.host.docker_engine import socket_watch
from shared.http import ServiceClient
from shared.models import Environment
from shared.runtime.loops import Loop
from shared.security.auth import derived_secret
from shared.store import connect
from shared.web.app import configure_logging, create_app
from shared.web.server import serve

DESCRIPTION = "Environments, releases and instances: start first, confirm the route, drain, stop; roll back by itself."
ENFORCE_S = 0.5


def _docker_driver(settings: Settings) -> Driver:
    """Returns a Docker driver. Its module is imported here, because a machine that runs apps as processes may lack
    Docker's Python package.
    """
    from services.deployer.drivers.docker.driver import DockerDriver

    stack, home = Stack(settings.stack_id(), settings.network), settings.home
    root_keeps = ROOT_KEEPS if settings.capabilities == "few" else ()
    return DockerDriver(stack, os.environ, settings.host_cgroups, lambda: ended_at(home), root_keeps)


DRIVERS: dict[str, Callable[[Settings], Driver]] = {
    "process": lambda settings: ProcessDriver(
        settings.home, os.environ, parent_for(settings.memory_limits, settings.home)
    ),
    "docker": _docker_driver,
}


def _engine_volumes(settings: Settings) -> Volumes:
    from services.deployer.drivers.docker.volume import EngineVolumes

    return EngineVolumes(Stack(settings.stack_id(), settings.network), os.environ)


VOLUMES: dict[str, Callable[[Settings], Volumes]] = {
    "process": lambda settings: FolderVolumes(settings.home / "volumes"),
    "docker": _engine_volumes,
}


def driver_for(settings: Settings) -> Driver:
    """Returns the driver that the settings name. Raises ValueError if there is no such driver, or if it cannot limit
    memory in the way that the settings ask for.
    """
    if settings.driver not in DRIVERS:
        raise ValueError(f"SLIPWAY_DRIVER={settings.driver}: there is no such driver; choose from {', '.join(DRIVERS)}")
    return DRIVERS[settings.driver](settings)


def app_facts(settings: Settings) -> AppFacts:
    """Returns what every app is told of the platform: the addresses of the flags service and of Redis, and the app's
    secrets for both, which are derived from the platform's token.
    """
    token = settings.platform_token()
    redis = urlsplit(settings.redis_url)
    where = f"{redis.hostname}:{redis.port or 6379}/{redis.path.strip('/') or 0}"
    return AppFacts(
        ofrep_endpoint=settings.url("flags"),
        redis_url=f"redis://app:{derived_secret(token, 'redis:app')}@{where}",
        flags_tokens={each: f"{each}.{derived_secret(token, f'flags:{each}')}" for each in Environment},
    )


def build_app(settings: Settings) -> FastAPI:
    """Returns the deployer as a FastAPI app, with all its parts. Connections and background loops start only with the
    app's lifespan.
    """
    redis = connect(settings.redis_connection_url())
    http = httpx.AsyncClient(trust_env=False)
    encryption = OverrideEncryption(secret_file(settings.home / "key").split())
    registry, store, driver = KeptRegistry(redis), Store(redis, encryption), driver_for(settings)
    locks: defaultdict[EnvironmentId, asyncio.Lock] = defaultdict(asyncio.Lock)

    def wake(environment_id: EnvironmentId) -> None:
        reconciler.wake(environment_id)

    prober = Prober(wake)
    builds = ServiceClient("build", settings, registry, http)
    release_service = ReleaseService(store, driver, builds, locks, wake, now)
    limits = ObservationLimits(settings.watch_s, settings.unhealthy_kept_s)
    reconcile_context = ReconcileContext(registry, prober, ReplacementTurns(), limits, now)
    facts = app_facts(settings)
    work_context = WorkContext(
        store=store,
        driver=driver,
        proxy=ProxyService(ServiceClient("proxy", settings, registry, http)),
        facts=facts,
        grace_s=settings.grace_s,
        domain=settings.domain,
        auto_rollback=release_service.auto_rollback,
        follow_rebuild=Rebuilder(store, driver, builds, locks, now).step,
    )
    reconciler = Reconciler(
        store, lambda each: EnvironmentReconciler(each, reconcile_context, work_context, locks[each], wake)
    )
    removal = Removal(
        store,
        registry,
        VOLUMES[settings.driver](settings),
        work_context.proxy,
        locks,
        reconciler.forget,
        reconciler.sync_again,
        now,
    )
    lifecycle = LifecycleService(store, locks, wake, now, removal.begin)
    strays = Strays(driver, store, settings.grace_s)
    ending = asyncio.Event()
    kept, records_kept = settings.releases_kept, settings.release_records_kept
    housekeeping = Housekeeping(store, driver, locks, settings.home, kept, records_kept)

    @contextlib.asynccontextmanager
    async def resources() -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()

        def on_instance_end(instance_id: str | None) -> None:
            loop.call_soon_threadsafe(reconciler.instance_ended, instance_id)
            if instance_id is None:  # after a restart, the engine may have started containers that must not run
                loop.call_soon_threadsafe(strays.loop.wake)

        async with redis, http:
            with driver.watching_ends(on_instance_end):
                yield
            await reconciler.close()
            await prober.close()

    return create_app(
        "deployer",
        settings,
        registry,
        description=DESCRIPTION,
        routers=[
            router(release_service, store, driver, registry, prober, facts, ending),
            lifecycle_router(lifecycle, removal, store),
        ],
        loops=[
            reconciler.loop,
            removal.loop,
            strays.loop,
            Loop("memory", driver.enforce, every_s=ENFORCE_S),
            Loop("housekeeping", housekeeping.step, every_s=60, stale_s=180),
            *([socket_watch(os.environ)] if settings.driver == "docker" else []),
        ],
        checks={"engine": driver.check, "environments": reconciler.check, "probes": prober.check},
        collectors=[ProbeCollector(prober)],
        resources=resources,
        at_end=ending.set,
    )


def run() -> None:
    """Runs the service until SIGTERM or SIGINT. Instances go on running afterwards."""
    configure_logging()
    settings = Settings()
    serve(build_app(settings), settings, "deployer")
