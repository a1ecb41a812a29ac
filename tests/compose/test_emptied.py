"""Volumes restored on an engine that has no image of any app: every app is built again by itself, two at a time."""

import json
import sys
import time
from pathlib import Path

import pytest

from shared.host.docker_engine import STACK
from shared.models import Environment
from stack.clients.probe_client import tracks_of_new_visitors, wait_for
from stack.compose import engine
from stack.compose.compose_stack import ComposeStack, command
from stack.compose.engine import docker
from tests.support.page_commands import MOVE, run_page
from tests.support.stack.new_app import new_app

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]


def in_volume(stack: ComposeStack, script: str) -> str:
    volume = f"slipway-{stack.project}-stored-production-data:/data"
    return docker("run", "--rm", "--user", "0", "--entrypoint", "sh", "-v", volume, "redis:8", "-c", script)


def unserved(stack: ComposeStack) -> list[str]:
    """Returns what the deployer says of the environments with a live release that have no ready instance."""
    found = []
    with stack.api("build") as build, stack.api("deployer") as deployer:
        for app in build.get("/apps").json()["items"]:
            for environment in Environment:
                view = deployer.get(f"/apps/{app['name']}/environments/{environment}").json()
                is_live = view.get("release") is not None and view["release"]["state"] == "live"
                if is_live and not any(each["state"] == "ready" for each in view["instances"]):
                    found.append(f"{app['name']}/{environment}: {view['problem']}")
    return found


def test_volumes_restored_on_an_emptied_engine_serve_all_apps(stack: ComposeStack, tmp_path: Path) -> None:
    app = new_app(stack, "stored", tmp_path / "stored")
    path = app.repository.folder / "slipway.yml"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"volumes": [{"name": "data", "path": "/data"}]}))
    commits = {}
    for environment in Environment:
        (app.repository.folder / "VERSION").write_text(environment)
        commits[environment] = app.repository.commit(environment)
        app.deliver(environment)
    wait_for(lambda: app.rollout()["state"] == "progressing", "rollout", 10)
    in_volume(stack, "echo data > /data/kept")

    run_page(MOVE, "Back up volumes of containers", STACK=stack.project, BACKUP=str(tmp_path / "backup"))
    command(stack.settings.home, "down", timeout_s=120)
    for label in (f"com.docker.compose.project={stack.project}", f"{STACK}={stack.project}"):
        engine.remove_made(label)
    engine.remove_images(f"{STACK}={stack.project}")

    run_page(MOVE, "Restore volumes on an empty engine", STACK=stack.project, BACKUP=str(tmp_path / "backup"))
    begun = time.monotonic()
    command(stack.settings.home, "up", timeout_s=120)
    up_s = time.monotonic() - begun
    wait_for(lambda: not unserved(stack), f"all apps again: {unserved(stack)}", 300)
    apps = len(engine.docker("image", "ls", "--quiet", "--filter", f"label={STACK}={stack.project}").split())
    took_s = time.monotonic() - begun
    sys.stdout.write(f"{apps} images rebuilt: all serve {took_s:.1f} s after `make up`, which took {up_s:.1f} s\n")

    wait_for(lambda: app.sees(app.production, commits[Environment.PRODUCTION]), "production", 20)
    wait_for(lambda: app.sees(app.canary, commits[Environment.CANARY]), "canary", 20)
    assert in_volume(stack, "cat /data/kept") == "data"
    wait_for(lambda: app.rollout()["state"] == "progressing", "the rollout of the rebuilt canary", 20)
    assert set(tracks_of_new_visitors(app.public, 300, host=app.host)) == {"stable", "canary"}
    builds = app.call("build", "GET", "/apps/stored/builds")["items"][:2]
    assert {(each["rebuilds"], each["environment"], each["state"]) for each in builds} == {
        ("stored-r1", "production", "success"),
        ("stored-r2", "canary", "success"),
    }
