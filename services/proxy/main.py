"""Assembles the proxy service from its parts according to the settings, and runs it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import partial
from typing import TYPE_CHECKING

import httpx
from fastapi import FastAPI

from services.proxy.api.certificates import certificates_router
from services.proxy.api.edge import edge_router
from services.proxy.api.page_views import ProxyPages
from services.proxy.api.pages import pages_router
from services.proxy.api.requests import requests_router
from services.proxy.api.rest import router, traffic_router
from services.proxy.certificates.certificate_service import CertificateService
from services.proxy.config import Settings
from services.proxy.control.auto_pause import AutoPause, answers
from services.proxy.control.control_plane import ControlPlane
from services.proxy.control.deployer_tasks import DeployerTasks
from services.proxy.control.disk_state import AbortedReleases, Snapshot
from services.proxy.control.edge_service import EdgeService
from services.proxy.control.envoy_loops import EnvoyWatch, TrafficReader
from services.proxy.control.envoy_upgrade import EnvoyUpgrade
from services.proxy.control.keeper_socket import keeper_fault
from services.proxy.control.rollout_service import RolloutService
from services.proxy.control.sync import RegistrySync
from services.proxy.counting.log_reader import AccessLogReader
from services.proxy.counting.request_counts import RequestCounts
from services.proxy.counting.visitor_log import VisitorLog
from services.proxy.envoy.admin import EnvoyAdmin, admin_client
from services.proxy.envoy.files import (
    EnvoyFiles,
    PressureFile,
    admin_socket,
    certificate_vault,
    envoy_folder,
    prepare,
)
from services.proxy.envoy.limits import read_file_limit
from services.proxy.metrics import TrafficCollector
from services.proxy.routes.route_store import RouteStore
from shared.clock import now
from shared.host.machine import MIB, inotify_warning
from shared.http import ServiceClient
from shared.registry import Registry
from shared.runtime.loops import Loop
from shared.security.vault import Vault
from shared.store import RedisError, connect
from shared.web.app import configure_logging, create_app
from shared.web.server import serve

if TYPE_CHECKING:
    from services.proxy.certificates.issuer import CertificateIssuer

CERTIFICATES_STALE_S = 300.0  # a step waits for the certificate authority
DESCRIPTION = "Routes, canary rollouts and traffic figures; Envoy, configured by files, carries the visitors."


def build_app(settings: Settings) -> FastAPI:
    """Returns the FastAPI app of the proxy service. Restores the routes that are stored on disk, if there are any, and
    rewrites those of Envoy's files that do not match them.
    """
    prepare(settings)
    folder = envoy_folder(settings)
    redis = connect(settings.redis_connection_url())
    admin_http = admin_client(admin_socket(settings))
    http = httpx.AsyncClient()
    registry, counts = Registry(redis), RequestCounts()
    store = RouteStore(redis, Vault(folder / "key", "proxy:override"))
    save_due, tasks_due = asyncio.Event(), asyncio.Event()

    def wake() -> None:
        save_due.set()
        tasks_due.set()

    control = ControlPlane(
        EnvoyFiles(folder, settings.https_port),
        Snapshot(folder),
        AbortedReleases(folder),
        EnvoyAdmin(admin_http),
        store,
        counts.view,
        now,
        wake=wake,
    )
    limit = read_file_limit()
    sync = RegistrySync(control, registry, counts, settings.domain, limit)
    watch = EnvoyWatch(control, ports=settings.envoy_ports)
    access_log = AccessLogReader(folder, control.admin.reopen_logs)
    reader = TrafficReader(control, counts, access_log, PressureFile(folder, limit.visitors).tell)
    request_log = VisitorLog(folder, control.admin.reopen_logs, settings.request_log_mb * MIB)
    deployer = ServiceClient("deployer", settings, registry, http)
    deployer_tasks = DeployerTasks(control, deployer)
    rollouts = RolloutService(control, deployer_tasks.check_promotion)
    certificates = CertificateService(control, partial(certificate_vault, folder))
    pages = ProxyPages(control, counts, reader, settings)
    loops = [
        Loop("save", control.save, every_s=1.0, woken=save_due),
        Loop("handover", deployer_tasks.step, every_s=1.0, woken=tasks_due),
        Loop("registry", sync.step, every_s=1.0),
        Loop("drain", sync.drain_step, every_s=0.5),
        Loop("envoy", watch.step, every_s=2.0),
        Loop("upgrade", EnvoyUpgrade(control.admin, folder).step, every_s=2.0),
        Loop("traffic", reader.keep_current, every_s=1.0),
        Loop("requests", request_log.rotate, every_s=5.0),
        Loop("pauses", AutoPause(control, partial(answers, deployer)).step, every_s=1.0),
    ]
    if issuer := _issuer(settings, control, certificates):
        loops.append(Loop("certificates", issuer.step, every_s=2.0, stale_s=CERTIFICATES_STALE_S))

    @contextlib.asynccontextmanager
    async def resources() -> AsyncIterator[None]:
        async with redis, http, admin_http:
            with contextlib.suppress(RedisError):  # if it fails, the loop `save` does it as soon as Redis answers
                await control.load()
            yield
            if issuer:
                await issuer.close()

    return create_app(
        "proxy",
        settings,
        registry,
        description=DESCRIPTION,
        routers=[
            router(sync, rollouts, reader, pages, request_log),
            traffic_router(reader, rollouts),
            requests_router(control, request_log, pages),
            certificates_router(certificates),
            edge_router(EdgeService(control, settings.domain)),
            pages_router(rollouts, pages),
        ],
        loops=loops,
        checks={"envoy": watch.check, "keeper": partial(keeper_fault, folder)},
        warnings={
            "open files": sync.limit_warning,
            "inotify": inotify_warning,
            "certificates": certificates.warning,
        },
        collectors=[TrafficCollector(control, counts)],
        resources=resources,
    )


def _issuer(settings: Settings, control: ControlPlane, certificates: CertificateService) -> "CertificateIssuer | None":
    if not settings.acme_directory:
        return None
    from services.proxy.certificates.account_file import AccountFile  # the packages for ACME take 8 MiB
    from services.proxy.certificates.acme_client import AcmeClient
    from services.proxy.certificates.issuer import CertificateIssuer

    folder = envoy_folder(settings)
    vault = partial(certificate_vault, folder)
    account = AccountFile(folder, vault, settings.acme_directory, settings.acme_email)
    client = AcmeClient(settings.acme_directory, settings.acme_ca)
    return CertificateIssuer(control, certificates, client, account, settings.acme_http_port)


def run() -> None:
    configure_logging()
    settings = Settings()
    serve(build_app(settings), settings, "proxy")
