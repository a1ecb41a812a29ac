"""A control plane on a folder and real Redis, with a clock to be set, and an Envoy that accepts every file."""

import asyncio
from collections import Counter
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
from services.proxy.control.envoy_loops import TrafficReader
from services.proxy.control.rollout_service import RolloutService
from services.proxy.counting.log_reader import AccessLogReader
from services.proxy.counting.request_counts import RequestCounts
from services.proxy.envoy.access_log import ACCESS_LOG
from services.proxy.envoy.admin import EnvoyAdmin, version_stat
from services.proxy.envoy.files import EnvoyFiles, PressureFile, envoy_folder, prepare
from services.proxy.routes.route import Route
from services.proxy.routes.route_store import RouteStore
from shared.config import SharedSettings
from shared.http import ServiceClient
from shared.models import Event, ServiceRecord
from shared.registry import Registry
from shared.security.vault import Vault
from tests.support.events import stored_events
from tests.support.proxy.routes import NOW


class EmptyRegistry(Registry):
    def __init__(self) -> None:
        pass

    async def services(self) -> list[ServiceRecord]:
        return []


class Plane:
    """A control plane with its services. `deployer`: the deployer's answers, `(status, document)` by `METHOD path`, or
    404. `answers`: True if the deployer answers probes; `probes` counts them.
    """

    def __init__(self, home: Path, redis: Redis, *routes: Route) -> None:
        self.settings = SharedSettings(home=home, token=SecretStr("token"))
        prepare(self.settings)
        self.now = NOW
        self._redis = redis
        self.counts = RequestCounts(lambda: "epoch")
        self.answers = True
        self.probes = 0
        self.asked = Counter[str]()  # requests to Envoy's admin interface by path
        self.versions_seen: list[dict[str, str]] = []  # of the files on disk, at each request for Envoy's versions
        self.envoy_is_away = False
        self.connections = 0  # of visitors, of whom Envoy may have 100
        self.deployer: dict[str, tuple[int, Any]] = {}
        Snapshot(envoy_folder(self.settings)).write(routes)
        self.start()

    def start(self) -> None:
        """Starts the service, or restarts it: its memory is lost."""
        folder = envoy_folder(self.settings)
        self._files, snapshot, aborted = EnvoyFiles(folder), Snapshot(folder), AbortedReleases(folder)
        admin = EnvoyAdmin(httpx.AsyncClient(transport=httpx.MockTransport(self._envoy), base_url="http://envoy"))
        self.control = ControlPlane(
            self._files,
            snapshot,
            aborted,
            admin,
            RouteStore(self._redis, Vault(folder / "key", "proxy:override")),
            self.counts.view,
            lambda: self.now,
            wake=lambda: None,
        )
        self.access_log = AccessLogReader(folder, admin.reopen_logs)
        self.reader = TrafficReader(self.control, self.counts, self.access_log, PressureFile(folder, 100).tell)
        self.auto_pause = AutoPause(self.control, self._probe)
        http = httpx.AsyncClient(transport=httpx.MockTransport(self._deployer))
        deployer = ServiceClient("deployer", self.settings, EmptyRegistry(), http)
        self.deployer_tasks = DeployerTasks(self.control, deployer)
        self.rollouts = RolloutService(self.control, self.deployer_tasks.check_promotion)

    async def probe_deployer(self, *answers: bool) -> None:
        """Sends one probe a second, each answered or not."""
        for self.answers in answers:
            self.now += timedelta(seconds=1)
            await self.auto_pause.step()

    def log(self, *lines: str) -> None:
        """Writes lines to Envoy's access log, as Envoy does."""
        with (envoy_folder(self.settings) / ACCESS_LOG).open("a") as file:
            file.writelines(f"{line}\n" for line in lines)

    async def events(self) -> list[Event]:
        await self.control.save()
        return await stored_events(self._redis)

    async def _probe(self) -> bool:
        self.probes += 1
        return self.answers

    async def _envoy(self, request: httpx.Request) -> httpx.Response:
        self.asked[request.url.path] += 1
        await asyncio.sleep(0.001)  # others may ask meanwhile
        if self.envoy_is_away:
            raise httpx.ConnectError("away", request=request)
        if "server" in request.url.params.get("filter", ""):
            stat = {"name": "server.total_connections", "value": self.connections}
            return httpx.Response(200, json={"stats": [stat]})
        if request.url.path == "/clusters":
            apps = self.control.routes
            names = [f"{app}/{kind}" for app in apps for kind in ("stable", "canary", "split")]
            return httpx.Response(200, json={"cluster_statuses": [{"name": name} for name in names]})
        self.versions_seen.append(dict(self._files.versions))
        versions = self._files.versions.items()
        return httpx.Response(200, text="\n".join(f'{version_stat(name)}: "{version}"' for name, version in versions))

    def _deployer(self, request: httpx.Request) -> httpx.Response:
        status, document = self.deployer.get(f"{request.method} {request.url.path}", (404, {"detail": "unknown"}))
        return httpx.Response(status, json=document)
