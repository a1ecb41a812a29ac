"""A control plane on a folder and real Redis, with a clock to be set, and an Envoy that accepts every file."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
from pydantic import SecretStr
from redis.asyncio import Redis

from services.proxy.control.auto_pause import AutoPause
from services.proxy.control.control_plane import ControlPlane
from services.proxy.control.deployer_tasks import DeployerTasks
from services.proxy.control.disk_state import AbortedReleases, Snapshot
from services.proxy.control.rollout_service import RolloutService
from services.proxy.envoy.admin import EnvoyAdmin, version_stat
from services.proxy.envoy.files import EnvoyFiles, envoy_folder, prepare
from services.proxy.routes.route import Route
from services.proxy.routes.route_store import RouteStore
from services.proxy.traffic import RequestCounts
from shared.config import SharedSettings
from shared.http import ServiceClient
from shared.models import Event, ServiceRecord
from shared.registry import RedisRegistry
from tests.support.events import stored_events
from tests.support.proxy.routes import NOW


class EmptyRegistry(RedisRegistry):
    def __init__(self) -> None:
        pass

    async def services(self) -> list[ServiceRecord]:
        return []


class Plane:
    """`deployer`: what a deployer answers, `(status, document)` by `METHOD path`, else 404. `answers`: does it live?"""

    def __init__(self, home: Path, redis: Redis, *routes: Route) -> None:
        self.settings = SharedSettings(home=home, token=SecretStr("token"))
        prepare(self.settings)
        self.now = NOW
        self._redis = redis
        self.ledger = RequestCounts(lambda: "epoch")
        self.answers = True
        self.asked = 0
        self.deployer: dict[str, tuple[int, Any]] = {}
        Snapshot(envoy_folder(self.settings)).write({route.app: route for route in routes})
        self.start()

    def start(self) -> None:
        """The service's start, or its restart: what was in memory is gone."""
        folder = envoy_folder(self.settings)
        self._files, snapshot, aborted = EnvoyFiles(folder), Snapshot(folder), AbortedReleases(folder)
        admin = EnvoyAdmin(httpx.AsyncClient(transport=httpx.MockTransport(self._envoy), base_url="http://envoy"))
        self.control = ControlPlane(
            self._files,
            snapshot,
            aborted,
            admin,
            RouteStore(self._redis),
            self.ledger.view,
            lambda: self.now,
            wake=lambda: None,
        )
        self.rollouts = RolloutService(self.control)
        self.pauses = AutoPause(self.control, self._ask)
        http = httpx.AsyncClient(transport=httpx.MockTransport(self._deployer))
        self.handover = DeployerTasks(self.control, ServiceClient("deployer", self.settings, EmptyRegistry(), http))

    async def listen(self, *answers: bool) -> None:
        """One question a second."""
        for self.answers in answers:
            self.now += timedelta(seconds=1)
            await self.pauses.step()

    async def told(self) -> list[Event]:
        await self.control.save()
        return await stored_events(self._redis)

    async def _ask(self) -> bool:
        self.asked += 1
        return self.answers

    def _envoy(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/clusters":
            apps = self.control.routes
            names = [f"{app}/{kind}" for app in apps for kind in ("stable", "canary", "split")]
            return httpx.Response(200, json={"cluster_statuses": [{"name": name} for name in names]})
        versions = self._files.versions.items()
        return httpx.Response(200, text="\n".join(f'{version_stat(name)}: "{version}"' for name, version in versions))

    def _deployer(self, request: httpx.Request) -> httpx.Response:
        status, document = self.deployer.get(f"{request.method} {request.url.path}", (404, {"detail": "unknown"}))
        return httpx.Response(status, json=document)
