"""A real build service in a process of its own, a stub of the deployer, and a developer with git."""

import contextlib
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
from redis import Redis

from tests.support.build.executors import share_virtualenv
from tests.support.build.forked_service import ForkedService
from tests.support.ports import free_port

TOKEN = "token-of-the-tests"
NOW = "2026-01-01T00:00:00Z"


class StubDeployer:
    """Answers as DESIGN says. `state` is what a release comes into after its first look; `asked` what was asked for;
    `removal` what it says of an app that is to be removed, None: nothing is left.
    """

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.state = "live"
        self.reason = ""
        self.removal: dict[str, Any] | None = None
        self.port = free_port()
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                stub.asked.append((self.path, body["build"]))
                self._answer(202, stub.release(body["build"], self.path, "pending"))

            def do_DELETE(self) -> None:
                app = self.path.partition("?")[0].removeprefix("/apps/")
                done = {"state": "removed", "waits_for": {}}
                self._answer(200, {"app": app, "volumes_left": {}, **(stub.removal or done)})

            def do_GET(self) -> None:
                if self.path.startswith("/apps/"):  # the releases of an environment
                    wanted = self.path.partition("?")[0]
                    items = [stub.release(build, path, stub.state) for path, build in stub.asked if path == wanted]
                    self._answer(200, {"items": items, "next": None})
                    return
                app = self.path.removeprefix("/releases/").removesuffix("-r1")
                path, build = next(each for each in reversed(stub.asked) if each[0].startswith(f"/apps/{app}/"))
                self._answer(200, stub.release(build, path, stub.state))

            def _answer(self, status: int, body: Any) -> None:
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def release(self, build: str, path: str, state: str) -> dict[str, Any]:
        app, environment = path.split("/")[2], path.split("/")[4]
        return {
            "id": f"{app}-r1",
            "app": app,
            "environment": environment,
            "build": build,
            "commit": "0" * 40,
            "state": state,
            "reason": self.reason,
            "created_at": NOW,
        }

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class BuildService:
    """A build service on a free port, with a process and a home of its own, beside a stub of the deployer. `settings`:
    further ones, by their name."""

    def __init__(self, home: Path, redis_url: str, **settings: str) -> None:
        self.home = home
        self.deployer = StubDeployer()
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        # As in all tests, without certificates, which http:// needs not and which take 35 ms of CPU time to load.
        self.http = httpx.Client(
            verify=False, base_url=self.url, headers={"Authorization": f"Bearer {TOKEN}"}, trust_env=False
        )
        self._environment = {
            **os.environ,
            "SLIPWAY_HOME": str(home),
            "SLIPWAY_TOKEN": TOKEN,
            "SLIPWAY_REDIS_URL": redis_url,
            "SLIPWAY_BUILD_PORT": str(self.port),
            "SLIPWAY_DEPLOYER_PORT": str(self.deployer.port),
            **settings,
        }
        self._redis_url = redis_url
        self.process: ForkedService

    @contextlib.contextmanager
    def running(self) -> Iterator["BuildService"]:
        """From an empty database on; ended after the block."""
        with Redis.from_url(self._redis_url) as database:
            database.flushdb()
        share_virtualenv(self.home / "cache")
        try:
            self.start()
            yield self
        finally:
            self.close()

    def start(self) -> None:
        self.process = ForkedService(self._environment, self.home / "service.log")
        eventually(lambda: self.ready(), 15)

    def ready(self) -> bool:
        try:
            return self.http.get("/ready").status_code == 200
        except httpx.TransportError:
            return False

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(20)

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(20)
        self.http.close()
        self.deployer.close()

    def build(self, build_id: str) -> dict[str, Any]:
        answer: dict[str, Any] = self.http.get(f"/builds/{build_id}").json()
        return answer

    def ended(self, build_id: str) -> dict[str, Any]:
        """The build, once it has ended."""
        eventually(lambda: self.build(build_id).get("finished_at") is not None, 30)
        return self.build(build_id)

    def log(self, build_id: str) -> str:
        return self.http.get(f"/builds/{build_id}/log").text


class Developer:
    """A clone with an app in it, and how its pushes go."""

    def __init__(self, folder: Path, service: BuildService, app: str) -> None:
        self._folder = folder
        self.remote = f"http://any:{TOKEN}@127.0.0.1:{service.port}/git/{app}.git"
        folder.mkdir()
        self.git("init", "--quiet", "--initial-branch=release")

    def commit(self, files: Mapping[str, str | bytes]) -> str:
        for name, content in files.items():
            path = self._folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        self.git("add", "--all", "--force")
        self.git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "--allow-empty", "-m", "change")
        return self.git("rev-parse", "HEAD").strip()

    def push(self, refs: str = "HEAD:release") -> str:
        """Pushes, and returns what git shows, without its `remote: `."""
        shown = self.git("push", "--force", self.remote, *refs.split(), merged=True)
        return "\n".join(line.removeprefix("remote: ").rstrip() for line in shown.splitlines())

    def push_in_background(self, ref: str = "HEAD:release") -> "subprocess.Popen[str]":
        command = ["git", "push", "--force", self.remote, ref]
        return subprocess.Popen(
            command,
            cwd=self._folder,
            env=git_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def git(self, *arguments: str, merged: bool = False) -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=self._folder, env=git_environment(), capture_output=True, text=True, timeout=60
        )
        if done.returncode and not merged:
            raise AssertionError(done.stderr)
        return done.stdout + done.stderr if merged else done.stdout


def leave(pushing: "subprocess.Popen[str]") -> None:
    """The pusher presses Ctrl-C."""
    os.killpg(pushing.pid, signal.SIGINT)
    pushing.communicate(timeout=10)


def git_environment() -> dict[str, str]:
    quiet = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1", "GIT_TERMINAL_PROMPT": "0"}
    return {**os.environ, **quiet, "no_proxy": "127.0.0.1"}


def eventually(holds: Callable[[], bool], timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > deadline:
            raise AssertionError(f"did not come about within {timeout_s} s")
        time.sleep(0.05)
