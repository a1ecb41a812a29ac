"""A client of the API of apps and builds; nothing is built here."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import httpx
import pytest
from redis.asyncio import Redis

from services.build.api.builds import builds_router
from services.build.api.flaky_tests import flaky_tests_router
from services.build.api.manifest import manifest_router
from services.build.api.page_views import BuildPages
from services.build.api.reports import reports_router
from services.build.api.rest import apps_router, build_router
from services.build.api.secrets import secrets_router
from services.build.builds.build import Build
from services.build.builds.build_store import BuildStore
from services.build.config import Settings
from services.build.executors.executor import Executor
from services.build.forges.delivery_store import DeliveryStore
from services.build.gates.history_store import HistoryStore
from services.build.gates.report_archive import ReportFiles
from services.build.git.git_fetch import Fetcher
from services.build.git.repository import Repositories
from services.build.logs.build_log import BuildLogs
from services.build.retention.app_removal import AppRemovals
from services.build.secrets.secret_store import SecretStore
from services.build.triggers.push_handler import PushHandler
from services.build.triggers.remote_sync import RemoteSync
from shared.http import ServiceClient
from shared.runtime.keyed_tasks import KeyedTasks
from shared.security.outgoing import AddressGuard
from shared.security.vault import Vault
from tests.support.build.api import TOKEN, client_of
from tests.support.build.builds import AT


@pytest.fixture
def history(redis: Redis) -> HistoryStore:
    return HistoryStore(redis)


@pytest.fixture
def logs(tmp_path: Path) -> BuildLogs:
    return BuildLogs(tmp_path / "logs")


@pytest.fixture
async def client(
    store: BuildStore, history: HistoryStore, logs: BuildLogs, redis: Redis, tmp_path: Path
) -> AsyncIterator[httpx.AsyncClient]:
    repositories = Repositories(tmp_path / "repositories", "/usr/bin:/bin")
    push_handler = PushHandler(store, repositories, logs, wake=lambda: None, url="http://build", now=lambda: AT)
    vault, deliveries = Vault(tmp_path / "key", "trial"), DeliveryStore(redis)
    guard = AddressGuard()
    fetcher = Fetcher(repositories, vault, "/usr/bin:/bin", guard)
    removals = AppRemovals(
        store,
        repositories,
        logs,
        ReportFiles(tmp_path / "reports"),
        tmp_path / "releases",
        cast(Executor, None),
        cast(ServiceClient, None),
        deliveries.forget,
        lambda: AT,
        undisturbed=lambda app: contextlib.nullcontext(),
        wake=lambda: None,
    )
    remote_sync = RemoteSync(
        store, deliveries, push_handler, fetcher, KeyedTasks("fetch"), lambda: AT, wake=lambda: None
    )
    pages = BuildPages(logs, Settings(home=tmp_path, token=TOKEN))

    async def refusal_to_cancel(build: Build) -> str:
        return "notes-r9 serves visitors already; roll back" if build.release == "notes-r9" else ""

    routers = [
        builds_router(store, pages),
        reports_router(store, ReportFiles(tmp_path / "reports"), repositories, pages),
        build_router(store, push_handler, remote_sync, logs, pages, lambda: None, refusal_to_cancel),
        apps_router(store, repositories, remote_sync, removals, lambda: None, vault, lambda: AT, guard=guard),
        flaky_tests_router(store, history, lambda: AT),
        manifest_router(),
        secrets_router(store, SecretStore(redis), vault, lambda: AT),
    ]
    async with client_of(routers, Settings(home=tmp_path, token=TOKEN), redis) as client:
        yield client
