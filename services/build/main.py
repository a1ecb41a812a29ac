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
from services.build.deadline import Limits
from services.build.delivery_store import RedisDeliveryStore
from services.build.deploy import Handover
from services.build.door import Door
from services.build.door_objects import DoorObjects
from services.build.executor import Executor, Stop
from services.build.expire import Expiry
from services.build.expiry import Rule
from services.build.fetch import Fetcher
from services.build.flaky_api import flaky_router
from services.build.git_http import GitHttp
from services.build.history_store import RedisHistoryStore
from services.build.intake import Intake
from services.build.lease_store import Lease
from services.build.leftovers import Sweep
from services.build.listing_api import listing_router
from services.build.manifest_api import manifest_router
from services.build.mirror import Mirror
from services.build.page import Pages
from services.build.passed_store import RedisPassedStore
from services.build.process_executor import ProcessExecutor, passed_on
from services.build.push_socket import PushSocket, install_hooks
from services.build.receiver import Receiver
from services.build.report_api import report_router
from services.build.report_files import ReportFiles
from services.build.repository import Repositories
from services.build.run import Tools, run_build
from services.build.secret_api import secrets_router
from services.build.secret_store import RedisSecretStore
from services.build.status_outbox import StatusOutbox
from services.build.status_store import RedisStatusStore
from services.build.store import RedisBuildStore
from services.build.tree import TreeLimits
from services.build.upkeep import TIMEOUT_S as UPKEEP_TIMEOUT_S
from services.build.upkeep import Upkeep
from services.build.wall import wall_off
from services.build.webhook_api import webhooks_router
from services.build.workers import Workers
from shared.app import configure_logging, create_app, serve
from shared.clock import now
from shared.engine import socket_watch
from shared.http import ServiceClient
from shared.loops import Loop
from shared.manifest import MIB
from shared.registry import RedisRegistry
from shared.store import connect
from shared.vault import Vault

SCHEDULE_S = 0.5
RECONCILE_S = 3.0
SWEEP_S = 60.0
DOOR_S = 2.0
EXPIRE_S = 1800.0
UPKEEP_S = 60.0
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
    passed = RedisPassedStore(redis)
    secrets, secret_vault = RedisSecretStore(redis), Vault(settings.home / "key", "build:secrets")
    path = environment.get("PATH", os.defpath)
    repositories = Repositories(
        settings.repositories, path, TreeLimits(settings.build_files, settings.build_checkout_mb * MIB)
    )
    logs, reports = BuildLogs(settings.build_logs), ReportFiles(settings.build_reports)
    deployer = ServiceClient("deployer", settings, registry, http)
    executor = _executor(settings, environment)
    tools = Tools(
        store=store,
        history=history,
        passed=passed,
        secrets=secrets,
        vault=secret_vault,
        repositories=repositories,
        executor=executor,
        analysis=Analysis(environment),
        logs=logs,
        reports=reports,
        handover=Handover(deployer),
        releases=settings.build_releases,
        urls=settings.app_urls,
        git_url=lambda app: f"{url}/git/{app}.git",
        build_url=lambda build: f"{url}/builds/{build}",
        now=now,
        limits=Limits(whole_s=settings.build_limit_s),
        steps_at_a_time=settings.build_steps,
    )

    async def run(build_id: str, stop: Stop) -> None:
        await run_build(tools, build_id, stop)

    lease = Lease(redis, settings.stack_id())
    workers = Workers(store, logs, run, settings.build_concurrency, now, lease.hold)
    schedule = Loop("schedule", workers.step, every_s=SCHEDULE_S)
    workers.wake = schedule.wake
    sweep = Loop("leftovers", Sweep(store, executor).step, every_s=SWEEP_S, stale_s=3 * SWEEP_S)
    expiry = Expiry(store, logs, reports, settings.build_releases, deployer, executor.images, _rule(settings), now)
    upkeep = Upkeep(store, repositories, path)
    intake = Intake(store, repositories, logs, wake=schedule.wake, url=url, now=now)
    variables = {"PATH": path, "SLIPWAY_PUSH_SOCKET": str(settings.push_socket), "SLIPWAY_BUILD_URL": url}
    spool, largest_push = settings.home / "spool", settings.build_push_mb * MIB
    git = GitHttp(settings.repositories, settings.hooks, spool, intake.admit, variables, largest_push)
    door = Door(store, intake, DoorObjects(repositories), logs, wake=schedule.wake, is_here=git.is_here)
    at_door = Loop("door", door.step, every_s=DOOR_S)
    door.left = at_door.wake
    pushes = PushSocket(settings.push_socket, intake.tell, door.judge)
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
        await passed.forget(deleted)
        await secrets.forget(deleted)
        await deliveries.forget(deleted)
        sweep.wake()

    pages = Pages(logs, settings)

    @contextlib.asynccontextmanager
    async def resources() -> AsyncIterator[None]:
        install_hooks(settings.hooks)
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
            listing_router(store, pages),
            builds_router(store, intake, mirror, logs, pages, schedule.wake),
            report_router(store, reports, repositories, pages),
            apps_router(store, repositories, mirror, upkeep, vault, forget, now, loopback=loopback),
            manifest_router(),
            flaky_router(store, history, now),
            secrets_router(store, secrets, secret_vault, now),
            webhooks_router(store, deliveries, receiver),
        ],
        loops=[
            schedule,
            Loop("reconcile", intake.reconcile, every_s=RECONCILE_S),
            at_door,
            deliver,
            Loop("statuses", outbox.step, every_s=DELIVER_S),
            sweep,
            *([socket_watch(os.environ)] if settings.driver == "docker" else []),
            Loop("expiry", expiry.step, every_s=EXPIRE_S, stale_s=3 * EXPIRE_S),
            Loop("upkeep", upkeep.step, every_s=UPKEEP_S, stale_s=UPKEEP_TIMEOUT_S + 3 * UPKEEP_S),
        ],
        checks={"git": git_is_there, "engine": executor.check, "lease": lease.refusal},
        public=PUBLIC,
        resources=resources,
        at_end=logs.close,
    )
    app.mount("/git", git)
    return app


def _rule(settings: Settings) -> Rule:
    return Rule(
        settings.build_keep_days,
        settings.build_keep_logs,
        settings.build_keep_artifacts,
        settings.build_keep_records,
    )


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
