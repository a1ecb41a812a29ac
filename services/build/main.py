"""Composition root of the build service."""

import contextlib
import os
import shutil
from collections.abc import AsyncIterator

import httpx
from fastapi import FastAPI

from services.build.analysis import Analysis
from services.build.api import PUBLIC, apps_router, builds_router
from services.build.app_tasks import AppTasks
from services.build.build_log import BuildLogs
from services.build.config import Settings
from services.build.delivery_store import RedisDeliveryStore
from services.build.deploy import Handover
from services.build.executor import Executor, Stop
from services.build.fetch import Fetcher
from services.build.flaky_api import flaky_router
from services.build.git_http import GitHttp
from services.build.history_store import RedisHistoryStore
from services.build.intake import Intake
from services.build.leftovers import Sweep
from services.build.manifest_api import manifest_router
from services.build.mirror import Mirror
from services.build.page import Pages
from services.build.process_executor import ProcessExecutor, passed_on
from services.build.push_socket import PushSocket, install_hook
from services.build.receiver import Receiver
from services.build.repository import Repositories
from services.build.run import Tools, run_build
from services.build.secret_api import secrets_router
from services.build.secret_store import RedisSecretStore
from services.build.status_outbox import StatusOutbox
from services.build.status_store import RedisStatusStore
from services.build.store import RedisBuildStore
from services.build.wall import wall_off
from services.build.webhook_api import webhooks_router
from services.build.workers import Workers
from shared.app import configure_logging, create_app, serve
from shared.clock import now
from shared.http import ServiceClient
from shared.loops import Loop
from shared.registry import RedisRegistry
from shared.store import connect
from shared.vault import Vault

SCHEDULE_S = 0.5
RECONCILE_S = 3.0
SWEEP_S = 60.0
DELIVER_S = 1.0
FETCHES, TELLINGS = 4, 8  # apps at a time


def build_app(settings: Settings) -> FastAPI:
    """The service with everything it needs; nothing runs before the app's lifespan starts."""
    environment = passed_on(os.environ)
    url = settings.outside_url("build")
    redis = connect(settings.redis_connection_url())
    registry = RedisRegistry(redis)
    http = httpx.AsyncClient(trust_env=False)
    store = RedisBuildStore(redis)
    history = RedisHistoryStore(redis)
    secrets, secret_vault = RedisSecretStore(redis), Vault(settings.home / "key", "build:secrets")
    path = environment.get("PATH", os.defpath)
    repositories = Repositories(settings.repositories, path)
    logs = BuildLogs(settings.build_logs)
    executor = _executor(settings, environment)
    tools = Tools(
        store=store,
        history=history,
        secrets=secrets,
        vault=secret_vault,
        repositories=repositories,
        executor=executor,
        analysis=Analysis(environment),
        logs=logs,
        handover=Handover(ServiceClient("deployer", settings, registry, http)),
        releases=settings.build_releases,
        urls=settings.app_urls,
        git_url=lambda app: f"{url}/git/{app}.git",
        now=now,
        steps_at_a_time=settings.build_steps,
    )

    async def run(build_id: str, stop: Stop) -> None:
        await run_build(tools, build_id, stop)

    workers = Workers(store, logs, run, settings.build_concurrency, now)
    schedule = Loop("schedule", workers.step, every_s=SCHEDULE_S)
    workers.wake = schedule.wake
    sweep = Loop("leftovers", Sweep(store, executor).step, every_s=SWEEP_S, stale_s=3 * SWEEP_S)
    intake = Intake(store, repositories, logs, wake=schedule.wake, url=url, now=now)
    pushes = PushSocket(settings.push_socket, intake.tell)
    loopback = settings.build_loopback_sources
    vault, deliveries = Vault(settings.home / "key", "build:sources"), RedisDeliveryStore(redis)
    fetches, tellings = AppTasks("fetch", FETCHES), AppTasks("statuses", TELLINGS)
    fetcher = Fetcher(repositories, vault, path, loopback=loopback)
    mirror = Mirror(store, deliveries, intake, fetcher, fetches, now)
    deliver = Loop("deliveries", mirror.step, every_s=DELIVER_S)
    fetches.done = mirror.wake = deliver.wake
    receiver = Receiver(store, deliveries, vault, wake=mirror.heard, now=now)
    outbox = StatusOutbox(store, RedisStatusStore(redis), vault, http, tellings, url)

    async def forget(deleted: str) -> None:
        await history.forget(deleted)
        await secrets.forget(deleted)
        await deliveries.forget(deleted)
        sweep.wake()

    @contextlib.asynccontextmanager
    async def resources() -> AsyncIterator[None]:
        install_hook(settings.hooks)
        wall_off(settings.build_releases)
        async with redis, http, workers.working(), fetches.working(), tellings.working(), pushes.listening():
            yield

    async def git_is_there() -> str | None:
        return None if shutil.which("git", path=environment.get("PATH")) else "git is not installed"

    app = create_app(
        "build",
        settings,
        registry,
        description="From a push to what passed its gates: git over HTTP, steps, reports, gates, logs, artifacts.",
        routers=[
            builds_router(store, intake, mirror, logs, Pages(logs, settings), schedule.wake),
            apps_router(store, repositories, mirror, vault, forget, now, loopback=loopback),
            manifest_router(),
            flaky_router(store, history, now),
            secrets_router(store, secrets, secret_vault, now),
            webhooks_router(store, deliveries, receiver),
        ],
        loops=[
            schedule,
            Loop("reconcile", intake.reconcile, every_s=RECONCILE_S),
            deliver,
            Loop("statuses", outbox.step, every_s=DELIVER_S),
            sweep,
        ],
        checks={"git": git_is_there, "engine": executor.check},
        public=PUBLIC,
        resources=resources,
        at_end=logs.close,
    )
    variables = {
        "PATH": path,
        "SLIPWAY_PUSH_SOCKET": str(settings.push_socket),
        "SLIPWAY_BUILD_URL": url,
    }
    git = GitHttp(settings.repositories, settings.hooks, settings.home / "spool", intake.admit, variables)
    app.mount("/git", git)
    return app


def _executor(settings: Settings, environment: dict[str, str]) -> Executor:
    if settings.driver == "docker":
        from services.build.container_step import container_side
        from services.build.docker_executor import DockerExecutor  # needs a package that processes do without
        from services.build.image import ImageBuilder, client_environment

        stack, client = settings.stack_id(), client_environment(os.environ)
        return DockerExecutor(client, ImageBuilder(client, stack), container_side(environment), stack)
    return ProcessExecutor(environment, settings.caches)


def run() -> None:
    """Runs the service until it is told to end."""
    configure_logging()
    settings = Settings()
    serve(build_app(settings), settings, "build")
