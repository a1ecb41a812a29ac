"""A home that was moved, or started from its backup, serves all its apps again by itself."""

import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import DEVNULL

from shared.config import SharedSettings
from shared.models import Environment
from stack.clients.delivery import Deployable
from stack.clients.probe_client import probe, wait_for
from stack.local.local_stack import LocalStack, end_launcher, settings_on_free_ports, start_launcher
from tests.support.gallery import FOLDER
from tests.support.page_commands import MOVE, run_page
from tests.support.stack.cadence import CADENCE

COUNTER = {
    "app.py": """
import http.server, os

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        path = os.environ["SLIPWAY_VOLUME_DATA"] + "/count"
        if self.path == "/count":
            with open(path, "ab", buffering=0) as file:
                file.write(b".")
        body = str(os.path.getsize(path) if os.path.exists(path) else 0).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

http.server.HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
""",
    "slipway.yml": json.dumps(
        {
            "app": "counter",
            "steps": [],
            "run": {"command": "python app.py"},
            "volumes": [{"name": "data", "path": "/data"}],
        }
    ),
}
NODE = {
    "package.json": json.dumps({"name": "web", "dependencies": {"served": "file:./served"}}),
    "served/package.json": json.dumps({"name": "served", "version": "1.0.0", "bin": {"served": "server.js"}}),
    "served/server.js": """#!/usr/bin/env node
const server = require("http").createServer((_, answer) => answer.end("hello from node"))
server.listen(process.env.PORT, "127.0.0.1")
""",
    "slipway.yml": json.dumps(
        {
            "app": "node",
            "steps": [{"name": "install", "commands": ["npm install --offline --no-audit --no-fund"]}],
            "run": {"command": "served"},
        }
    ),
}
BODIES = {"counter": "", "node": "hello from node", "flask": "hello from flask", "plain-html": "<!doctype html>"}


@contextlib.contextmanager
def started(settings: SharedSettings, log: Path) -> Iterator[LocalStack]:
    launcher = start_launcher(settings, log, CADENCE)
    try:
        stack = LocalStack(settings)
        wait_for(stack.is_ready, f"the stack: {log.read_text()}", 60)
        yield stack
    finally:
        end_launcher(launcher)


def app_of(stack: LocalStack, name: str, folder: Path, files: Mapping[str, str]) -> Deployable:
    """Returns the app with these files, or else those of the gallery."""
    app = Deployable(stack, name, folder / name)
    if not files:
        app.repository.copy_from(FOLDER / name)
    for file, text in files.items():
        path = app.repository.folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    app.repository.commit("first")
    return app


def serves(app: Deployable, body: str) -> bool:
    answer = probe(app.production, "/", app.host)
    return answer.status == 200 and answer.body.startswith(body)


def serve_all(stack: LocalStack, folder: Path, started_at: float) -> float:
    """Waits until all apps serve, the canary too, and returns the seconds since the start."""
    for name, body in BODIES.items():
        app = Deployable(stack, name, folder / name)
        wait_for(lambda: serves(app, body), f"{name} again", 90)  # noqa: B023
    canary = Deployable(stack, "counter", folder / "counter")
    wait_for(lambda: probe(canary.canary, "/", canary.host).status == 200, "the canary again", 30)
    return time.monotonic() - started_at


def test_a_home_that_was_moved_and_one_that_was_restored_serve_all_apps(tmp_path: Path) -> None:
    parent = Path(tempfile.mkdtemp(prefix="slipway-moved-"))
    first, second, third = [parent / name for name in ("first", "second-place", "backup")]
    first.mkdir()
    settings, log = settings_on_free_ports(first), tmp_path / "log"
    try:
        with started(settings, log) as stack:
            apps = [app_of(stack, name, tmp_path, files) for name, files in
                    (("counter", COUNTER), ("node", NODE), ("flask", {}), ("plain-html", {}))]  # fmt: skip
            with ThreadPoolExecutor(len(apps)) as threads:
                pushed = list(threads.map(lambda app: app.repository.push("release").finish(), apps))
            pushed.append(apps[0].repository.push("dev").finish())
            assert all(push.accepted for push in pushed), "\n".join(push.output for push in pushed)
            serve_all(stack, tmp_path, time.monotonic())
            for number in range(1, 4):
                assert probe(apps[0].production, "/count", apps[0].host).body == str(number)
            rollout = apps[0].rollout()
            run_page(MOVE, "Back up a home", FROM=str(first), BACKUP=str(third))

        run_page(MOVE, "Move a home", FROM=str(first), TO=str(second))
        shutil.rmtree(second / "releases" / "plain-html")
        begun = time.monotonic()
        with started(settings.model_copy(update={"home": second}), log) as stack:
            took_s = serve_all(stack, tmp_path, begun)
            sys.stdout.write(f"after the move, all apps serve {took_s:.1f} s after the start of the stack\n")
            assert probe(apps[0].production, "/count", apps[0].host).body == "4"
            assert apps[0].rollout() == rollout, "the canary is observed on"
            builds = {name: apps[0].call("build", "GET", f"/apps/{name}/builds")["items"] for name in BODIES}
            assert {name: len(found) for name, found in builds.items()} == {
                "counter": 2, "node": 1, "flask": 1, "plain-html": 2,
            }, "only what is gone is built again"  # fmt: skip
            again, before = builds["plain-html"]
            assert (again["rebuilds"], again["commit"]) == ("plain-html-r1", before["commit"])
            assert again["artifact"]["ref"] == f"releases/plain-html/{again['id']}"
            wait_for(lambda: apps[3].latest_release(Environment.PRODUCTION)["state"] == "live", "the new release", 20)
            path = "/apps/plain-html/environments/production"
            assert apps[3].call("deployer", "GET", path)["problem"] is None

        begun = time.monotonic()
        with started(settings.model_copy(update={"home": third}), log) as stack:
            took_s = serve_all(stack, tmp_path, begun)
            sys.stdout.write(f"from the backup, all apps serve {took_s:.1f} s after the start of the stack\n")
            assert probe(apps[0].production, "/count", apps[0].host).body == "4", "as it was when it was backed up"
            assert apps[0].rollout() == rollout
    finally:
        subprocess.run(["sh", "-c", 'rm -rf "$0" &', str(parent)], check=True, stdin=DEVNULL, stdout=DEVNULL)
