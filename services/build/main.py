"""Assembles the build service from its parts, as its settings say."""

import asyncio
import contextlib
import os
import shutil
from collections.abc import AsyncIterator
from functools import partial

import httpx
from fastapi import FastAPI

from services.build.analysis.code_analysis import Analysis
from services.build.api.builds import builds_router
from services.build.api.flaky_tests import flaky_tests_router
from services.build.api.manifest import manifest_router
from services.build.api.page_views import BuildPages
from services.build.api.rebuilds import rebuilds_router
from services.build.api.reports import reports_router
from services.build.api.rest import PUBLIC, apps_router, build_router
from services.build.api.secrets import secrets_router
from services.build.api.webhooks import webhooks_router
from services.build.builds.build_store import BuildStore
from services.build.builds.lease_store import Lease
from services.build.builds.status_store import StatusStore
from services.build.cache.cache_store import CacheStore
from services.build.config import Settings
from services.build.executors.executor import Executor
from services.build.executors.process.executor import ProcessExecutor, passed_on
from services.build.forges.delivery_store import DeliveryStore
from services.build.forges.status_outbox import StatusOutbox
from services.build.forges.webhook_handler import WebhookHandler
from services.build.gates.history_store import HistoryStore
from services.build.gates.report_archive import ReportFiles
from services.build.git.config_isolation import isolate
from services.build.git.git_fetch import Fetcher
from services.build.git.git_http import GitHttp
from services.build.git.pre_receive_objects import PreReceiveObjects
from services.build.git.push_socket import PushSocket, install_hooks
from services.build.git.repository import Repositories
from services.build.git.tree_limits import TreeLimits
from services.build.logs.build_log import BuildLogs
from services.build.pipeline.build_context import BuildContext
from services.build.pipeline.deadline import TimeLimits
from services.build.pipeline.deployer_client import DeployerClient
from services.build.pipeline.run import run_build
from services.build.queue.workers import Workers
from services.build.retention.app_removal import AppRemovals
from services.build.retention.executor_gc import ExecutorGc
from services.build.retention.repository_gc import TIMEOUT_S as GC_TIMEOUT_S
from services.build.retention.repository_gc import RepositoryGc
from services.build.retention.retention_job import RetentionJob
from services.build.retention.retention_policy import RetentionPolicy
from services.build.secrets.secret_store import SecretStore
from services.build.triggers.pre_receive import PreReceiveGate
from services.build.triggers.push_handler import PushHandler
from services.build.triggers.remote_sync import RemoteSync
from shared.clock import now
from shared.host.disk_reserve import DiskReserve
from shared.host.docker_engine import socket_watch
from shared.http import ServiceClient
from shared.manifest import MIB
from shared.registry import Registry
from shared.runtime.clock_store import ClockTrust
from shared.runtime.keyed_tasks import KeyedTasks
from shared.runtime.loops import Loop
from shared.security.outgoing import AddressGuard, GuardedTransport
from shared.security.vault import Vault
from shared.store import connect
from shared.web.app import configure_logging, create_app
from shared.web.server import serve

SCHEDULE_S = 2.0  # a change that queues, stops or ends a build also wakes the loop
RECONCILE_S = 3.0
EXECUTOR_GC_S = 60.0
PRE_RECEIVE_S = 2.0
RETENTION_S = 1800.0
REMOVAL_S = 60.0  # a request also wakes the loop, and the loop runs sooner while an app waits
REPOSITORY_GC_S = 60.0
DELIVER_S = 5.0  # a delivery also wakes the loop, and the loop runs sooner while apps wait
STATUSES_S = 2.0
FETCHES, STATUSES = 4, 8  # apps that are handled at the same time


def build_app(settings: Settings) -> FastAPI:
    """Returns the build service with all its parts. Nothing runs until the lifespan of the FastAPI app starts."""
    environment = passed_on(os.environ)
    url = settings.outside_url("build")
    redis = connect(settings.redis_connection_url())
    registry = Registry(redis)
    http = httpx.AsyncClient(trust_env=False)
    store = BuildStore(redis)
    history = HistoryStore(redis)
    cache = CacheStore(redis)
    secrets, secret_vault = SecretStore(redis), Vault(settings.home / "key", "build:secrets")
    path = environment.get("PATH", os.defpath)
    repositories = Repositories(
        settings.repositories, path, TreeLimits(settings.build_files, settings.build_checkout_mb * MIB)
    )
    logs, reports = BuildLogs(settings.build_logs), ReportFiles(settings.build_reports)
    reserve = DiskReserve(settings.home, settings.disk_limits)
    deployer = ServiceClient("deployer", settings, registry, http)
    deployer_client = DeployerClient(deployer)
    executor = _executor(settings, environment)
    context = BuildContext(
        store=store,
        history=history,
        cache=cache,
        secrets=secrets,
        vault=secret_vault,
        repositories=repositories,
        executor=executor,
        analysis=Analysis(environment),
        logs=logs,
        reports=reports,
        deployer=deployer_client,
        releases=settings.build_releases,
        reserve=reserve,
        urls=settings.app_urls,
        git_url=lambda app: f"{url}/git/{app}.git",
        build_url=lambda build: f"{url}/builds/{build}",
        now=now,
        limits=TimeLimits(whole_s=settings.build_limit_s),
        steps_at_a_time=settings.build_steps,
    )

    lease = Lease(redis, settings.stack_id())
    schedule_due, pre_receive_due, fetch_due = asyncio.Event(), asyncio.Event(), asyncio.Event()
    workers = Workers(
        store,
        logs,
        partial(run_build, context),
        settings.build_concurrency,
        now,
        lease.hold,
        lambda: reserve.refusal,
        wake=schedule_due.set,
    )
    policy = RetentionPolicy(
        settings.build_keep_days, settings.build_keep_logs, settings.build_keep_artifacts, settings.build_keep_records
    )
    trusts_clock = ClockTrust(redis, "build:clock").is_trusted
    retention = RetentionJob(
        store, logs, reports, settings.build_releases, deployer, executor.images, policy, now, trusts_clock
    )
    repository_gc = RepositoryGc(store, repositories, path)
    push_handler = PushHandler(store, repositories, logs, wake=schedule_due.set, url=url, now=now)
    variables = {"PATH": path, "SLIPWAY_PUSH_SOCKET": str(settings.push_socket), "SLIPWAY_BUILD_URL": url}
    spool, largest_push = settings.home / "spool", settings.build_push_mb * MIB
    git = GitHttp(settings.repositories, settings.hooks, spool, push_handler.admit, variables, largest_push, reserve)
    pre_receive = PreReceiveGate(
        store,
        push_handler,
        PreReceiveObjects(repositories),
        logs,
        wake=schedule_due.set,
        on_abandoned=pre_receive_due.set,
        is_connected=git.is_connected,
    )
    pushes = PushSocket(settings.push_socket, push_handler.report, pre_receive.judge)
    guard = AddressGuard(settings.allow_addresses)
    forges = httpx.AsyncClient(trust_env=False, transport=GuardedTransport(guard))
    vault, deliveries = Vault(settings.home / "key", "build:sources"), DeliveryStore(redis)
    fetches = KeyedTasks("fetch", fetch_due.set, at_a_time=FETCHES)
    statuses = KeyedTasks("statuses", at_a_time=STATUSES)
    fetcher = Fetcher(repositories, vault, path, guard)
    remote_sync = RemoteSync(
        store, deliveries, push_handler, fetcher, fetches, now, wake=fetch_due.set, shortage=lambda: reserve.refusal
    )
    webhook_handler = WebhookHandler(store, deliveries, vault, wake=remote_sync.on_delivery, now=now)
    outbox = StatusOutbox(store, StatusStore(redis), vault, forges, statuses, url)

    async def forget_app(app: str) -> None:
        await history.forget(app)
        await cache.forget(app)
        await secrets.forget(app)
        await deliveries.forget(app)

    removal_due = asyncio.Event()
    removals = AppRemovals(
        store,
        repositories,
        logs,
        reports,
        settings.build_releases,
        executor,
        deployer,
        forget_app,
        now,
        undisturbed=lambda app: _both(remote_sync.undisturbed(app), repository_gc.undisturbed(app)),
        wake=schedule_due.set,
    )
    pages = BuildPages(logs, settings)

    @contextlib.asynccontextmanager
    async def resources() -> AsyncIterator[None]:
        install_hooks(settings.hooks)
        isolate(settings.build_releases)
        reports.remove_unfinished()
        async with redis, http, forges, workers.working(), pushes.listening():
            yield
            await fetches.close()
            await statuses.close()

    async def git_is_there() -> str | None:
        return None if shutil.which("git", path=environment.get("PATH")) else "git is not installed"

    app = create_app(
        "build",
        settings,
        registry,
        description="From a push to what passed its gates: git over HTTP, steps, reports, gates, logs, artifacts.",
        routers=[
            builds_router(store, pages),
            build_router(
                store, push_handler, remote_sync, logs, pages, schedule_due.set, deployer_client.refusal_to_cancel
            ),
            rebuilds_router(remote_sync),
            reports_router(store, reports, repositories, pages),
            apps_router(store, repositories, remote_sync, removals, removal_due.set, vault, now, guard=guard),
            manifest_router(),
            flaky_tests_router(store, history, now),
            secrets_router(store, secrets, secret_vault, now),
            webhooks_router(store, deliveries, webhook_handler),
        ],
        loops=[
            Loop("schedule", workers.step, every_s=SCHEDULE_S, woken=schedule_due),
            Loop("reconcile", push_handler.reconcile, every_s=RECONCILE_S),
            Loop("door", pre_receive.step, every_s=PRE_RECEIVE_S, woken=pre_receive_due),
            Loop("deliveries", remote_sync.step, every_s=DELIVER_S, woken=fetch_due),
            Loop("statuses", outbox.step, every_s=STATUSES_S),
            Loop("removal", removals.step, every_s=REMOVAL_S, stale_s=3 * REMOVAL_S, woken=removal_due),
            Loop("leftovers", ExecutorGc(store, executor).step, every_s=EXECUTOR_GC_S, stale_s=3 * EXECUTOR_GC_S),
            *([socket_watch(os.environ)] if settings.driver == "docker" else []),
            Loop("expiry", retention.step, every_s=RETENTION_S, stale_s=3 * RETENTION_S),
            Loop("upkeep", repository_gc.step, every_s=REPOSITORY_GC_S, stale_s=GC_TIMEOUT_S + 3 * REPOSITORY_GC_S),
        ],
        checks={"git": git_is_there, "engine": executor.check, "lease": lease.refusal},
        public=PUBLIC,
        resources=resources,
        at_end=logs.close,
    )
    app.mount("/git", git)
    return app


@contextlib.asynccontextmanager
async def _both(*blocks: contextlib.AbstractAsyncContextManager[None]) -> AsyncIterator[None]:
    async with contextlib.AsyncExitStack() as stack:
        for block in blocks:
            await stack.enter_async_context(block)
        yield


def _executor(settings: Settings, environment: dict[str, str]) -> Executor:
    if settings.driver == "docker":
        from services.build.executors.docker.container_step import container_side
        from services.build.executors.docker.executor import DockerExecutor  # needs Docker's package
        from services.build.executors.docker.image_builder import ImageBuilder, client_environment

        stack, client = settings.stack_id(), client_environment(os.environ)
        return DockerExecutor(client, ImageBuilder(client, stack, settings.pull), container_side(environment), stack)
    return ProcessExecutor(environment, settings.home)


def run() -> None:
    """Runs the build service until a signal ends it."""
    configure_logging()
    settings = Settings()
    serve(build_app(settings), settings, "build")
