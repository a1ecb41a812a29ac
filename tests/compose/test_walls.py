"""Containers have only the users, capabilities, ports and secrets that they need, and only two see the engine's
socket.
"""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shared.models import Environment
from shared.security.auth import derived_secret
from stack.clients.delivery import Deployable
from stack.clients.probe_client import wait_for
from stack.compose.compose_stack import ComposeStack
from stack.compose.engine import docker

pytestmark = pytest.mark.docker

SERVICES = ("build", "deployer", "monitor", "flags", "proxy")
LONG_RUNNING = (*SERVICES, "envoy", "keeper", "redis")


def inspected(stack: ComposeStack, program: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(docker("inspect", stack.container(program)))[0]
    return found


@pytest.mark.parametrize("program", LONG_RUNNING)
def test_nothing_runs_as_root_nor_can_become_it(stack: ComposeStack, program: str) -> None:
    rows = docker("top", stack.container(program), "-eo", "pid,uid").splitlines()[1:]
    users = {row.split()[1] for row in rows}
    assert users and "0" not in users
    host = inspected(stack, program)["HostConfig"]
    assert host["ReadonlyRootfs"] and host["CapDrop"] == ["ALL"] and not host["CapAdd"] and not host["Privileged"]
    assert "no-new-privileges:true" in host["SecurityOpt"]
    assert host["Ulimits"] == [{"Name": "nofile", "Hard": 20_000, "Soft": 20_000}]
    assert host["PidsLimit"] > 0 and host["RestartPolicy"]["Name"] == "always"


def test_only_build_and_deployer_see_the_engine(stack: ComposeStack) -> None:
    sees = [p for p in LONG_RUNNING if any("docker.sock" in mount["Source"] for mount in inspected(stack, p)["Mounts"])]
    assert sees == ["build", "deployer"]


def test_only_visitors_come_in_from_elsewhere(stack: ComposeStack) -> None:
    """The address of the public port and of the one for HTTPS is a setting, here 127.0.0.1. Without a port for HTTPS,
    the engine opens one on 127.0.0.1, at which nothing listens.
    """
    ports = {p: inspected(stack, p)["HostConfig"]["PortBindings"] or {} for p in LONG_RUNNING}
    assert ports["redis"] == {}
    addresses = {binding["HostIp"] for each in ports.values() for bindings in each.values() for binding in bindings}
    assert addresses == {"127.0.0.1"}
    text = (Path(__file__).parents[2] / "docker-compose.yml").read_text()
    assert [line.split('"')[1].partition(":$")[0] for line in text.splitlines() if "0.0.0.0}" in line] == [
        "${SLIPWAY_PUBLIC_ADDRESS:-0.0.0.0}",
        "${SLIPWAY_HTTPS_PORT:+${SLIPWAY_PUBLIC_ADDRESS:-0.0.0.0}:}${SLIPWAY_HTTPS_PORT:-127.0.0.1:0}",
    ]


@pytest.mark.parametrize("service", SERVICES)
def test_an_image_holds_its_own_service_only(stack: ComposeStack, service: str) -> None:
    held = docker("exec", stack.container(service), "ls", "/opt/slipway/services", "/opt/slipway").split()
    others = set(SERVICES) - {service}
    assert service in held and not others & set(held) and "tests" not in held and "stack" not in held


def test_no_secret_in_images_environments_process_lists_or_logs(
    stack: ComposeStack, make_app: Callable[[str], Deployable]
) -> None:
    app = make_app("hush")
    app.repository.commit("first")
    app.deliver(Environment.PRODUCTION)
    wait_for(lambda: app.latest_release(Environment.PRODUCTION)["state"] == "live", "live", 20)
    password = docker("exec", stack.container("flags"), "cat", "/run/slipway/redis/password").strip()
    secrets = {"token": stack.token, "Redis' password": password}
    derived = {"the apps' password": derived_secret(stack.token, "redis:app")}
    platform = [stack.container(program) for program in LONG_RUNNING]
    images = {docker("inspect", "--format", "{{.Image}}", name).strip() for name in platform}
    images.add("slipway/platform-first-run")
    apps = docker("ps", "--quiet", "--filter", f"label=io.slipway.stack={stack.project}").split()
    images |= {docker("inspect", "--format", "{{.Image}}", name).strip() for name in apps}
    shown = {
        "environment or command": "".join(docker("inspect", name) for name in platform),
        "image": "".join(docker("image", "inspect", i) + docker("history", "--no-trunc", i) for i in images),
        "process list": "".join(docker("top", stack.container(p), "-eo", "pid,args") for p in LONG_RUNNING),
        "log": "".join(logs(name) for name in [*platform, *apps]),
        "build log": log_of(stack, "hush-1"),
        "environment of an app, as the engine shows it": "".join(docker("inspect", name) for name in apps),
    }
    for where, text in shown.items():
        assert text, where
        for what, secret in secrets.items():
            assert secret not in text, f"{what} is in the {where}"
    for where in ("environment or command", "image", "process list", "log", "build log"):
        for what, secret in derived.items():
            assert secret not in shown[where], f"{what} is in the {where}"


def logs(container: str) -> str:
    done = subprocess.run(["docker", "logs", container], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout + done.stderr


def log_of(stack: ComposeStack, build: str) -> str:
    with stack.api("build") as client:
        return client.get(f"/builds/{build}/log").text
