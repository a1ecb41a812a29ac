"""Composition root of the proxy service."""

import contextlib
from collections.abc import AsyncIterator
from functools import partial

import httpx
from fastapi import FastAPI

from services.proxy.api import router
from services.proxy.config import Settings
from services.proxy.control import ControlPlane
from services.proxy.envoy_admin import EnvoyAdmin, admin_client
from services.proxy.envoy_files import EnvoyFiles, admin_socket, envoy_folder, prepare
from services.proxy.handover import Handover
from services.proxy.journal import AbortedReleases, Snapshot
from services.proxy.loops import EnvoyWatch, TrafficReader
from services.proxy.metrics import TrafficCollector
from services.proxy.page import Pages
from services.proxy.page_api import pages_router
from services.proxy.pauses import Pauses, answers
from services.proxy.rollouts import Rollouts
from services.proxy.store import RedisRouteStore
from services.proxy.sync import Sync
from services.proxy.traffic import Ledger
from shared.app import configure_logging, create_app, serve
from shared.clock import now
from shared.http import ServiceClient
from shared.loops import Loop
from shared.registry import RedisRegistry
from shared.store import RedisError, connect

DESCRIPTION = "Routes, canary rollouts and traffic figures; Envoy, configured by files, carries the visitors."


def build_app(settings: Settings) -> FastAPI:
    """The service's app; takes up what its files say, and writes Envoy's only where they differ."""
    prepare(settings)
    folder = envoy_folder(settings)
    redis = connect(settings.redis_connection_url())
    admin_http = admin_client(admin_socket(settings))
    http = httpx.AsyncClient()
    registry, store, ledger = RedisRegistry(redis), RedisRouteStore(redis), Ledger()
    control = ControlPlane(
        EnvoyFiles(folder), Snapshot(folder), AbortedReleases(folder), EnvoyAdmin(admin_http), store, ledger.view, now
    )
    sync = Sync(control, registry, ledger, settings.domain)
    watch, reader = EnvoyWatch(control), TrafficReader(control, ledger)
    rollouts, pages = Rollouts(control), Pages(control, ledger, reader, settings)
    deployer = ServiceClient("deployer", settings, registry, http)
    handover = Handover(control, deployer)
    saving = Loop("save", control.save, every_s=1.0)
    handing_over = Loop("handover", handover.step, every_s=1.0)
    loops = [
        saving,
        handing_over,
        Loop("registry", sync.step, every_s=1.0),
        Loop("drain", sync.drain_step, every_s=0.5),
        Loop("envoy", watch.step, every_s=2.0),
        Loop("traffic", reader.step, every_s=1.0),
        Loop("pauses", Pauses(control, partial(answers, deployer)).step, every_s=1.0),
    ]

    def on_change() -> None:
        saving.wake()
        handing_over.wake()

    control.on_change = on_change

    @contextlib.asynccontextmanager
    async def resources() -> AsyncIterator[None]:
        with contextlib.suppress(RedisError):  # else the loop `save` does it as soon as Redis answers
            await control.load()
        async with http, admin_http:
            yield
        await redis.aclose()

    app = create_app(
        "proxy",
        settings,
        registry,
        description=DESCRIPTION,
        routers=[router(sync, rollouts, reader, pages), pages_router(rollouts, pages)],
        loops=loops,
        checks={"envoy": watch.check, "redis": store.check},
        resources=resources,
    )
    app.state.metrics.register(TrafficCollector(control, ledger))
    return app


def run() -> None:
    configure_logging()
    settings = Settings()
    serve(build_app(settings), settings, "proxy")
