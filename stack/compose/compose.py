"""Implements `make up` and `make down`: `docker compose`, and steps around it that it cannot do. It runs with the
machine's own Python 3.11, without packages.
"""

import json
import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from shared.host.port_holder import port_problem
from shared.host.redis_log import is_damaged, last_words_in
from shared.host.reserved_ports import reserve
from stack.compose import network
from stack.compose.engine import EngineError
from stack.private_file import write_private

ROOT = Path(__file__).parents[2]
SERVICES = ("build", "deployer", "monitor", "flags", "proxy")
READY_WITHIN_S = 90
REDIS_EVERY_S = 3.0
SOCKET = Path("/var/run/docker.sock")
TOKEN = "/run/slipway/token"
REPAIR = """Cut off what it cannot read, after a copy; what was written later than that is lost:
  docker compose stop redis
  docker compose run --rm --no-deps --entrypoint sh redis -c \\
    'cp -a appendonlydir appendonlydir.damaged && redis-check-aof --fix appendonlydir/appendonly.aof.manifest'
  make up"""
# The image may be older than this checkout (`git pull && make down`), when the module's name was `ending`.
END_INSTANCES = """
import runpy
from importlib.util import find_spec

name = "services.deployer.shutdown"
runpy.run_module(name if find_spec(name) else "services.deployer.ending", run_name="__main__")
"""


class Compose:
    """Runs `docker compose` for the project in `docker-compose.yml` with the settings in `env_file`."""

    def __init__(self, env_file: Path) -> None:
        self._env_file = env_file

    def run(self, *arguments: str, text: str | None = None, quiet: bool = False) -> str:
        """Runs `docker compose` with these arguments and returns its output. Raises CalledProcessError. The command's
        error messages are printed; with `quiet` they are in the exception's `stderr` instead.
        """
        command = ["docker", "compose", "--env-file", str(self._env_file), *arguments]
        return subprocess.run(
            command,
            cwd=ROOT,
            check=True,
            text=True,
            input=text or "",
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if quiet else None,
        ).stdout

    def configuration(self) -> dict[str, Any]:
        """Returns the resolved configuration of `docker compose config`: `name`, `services`, `networks`."""
        found: dict[str, Any] = json.loads(self.run("config", "--format", "json"))
        return found

    def ports(self) -> dict[str, int]:
        """Returns name → port of the stack on this machine, for each service, `public`, `production`, `canary` and, if
        it has one, `https`.
        """
        environment = self.configuration()["services"]["proxy"]["environment"]
        names = (*SERVICES, "public", "production", "canary", "https")
        ports = {name: int(environment[f"SLIPWAY_{name.upper()}_PORT"]) for name in names}
        return {name: port for name, port in ports.items() if port}


def up(compose: Compose, home: Path) -> None:
    """Builds and starts the stack, waits until all five services are ready, and writes the token to `<home>/token`."""
    started = time.monotonic()
    compose.run("--profile", "first-run", "build")
    configuration = compose.configuration()
    hint = network.ensure(configuration["networks"]["apps"]["name"], configuration["name"])
    ports = compose.ports()
    if not compose.run("ps", "--quiet").strip():
        need_free_ports(ports)
    reserve(ports.values())  # otherwise an outgoing connection may use one of them at the next start
    own = os.environ.get("SLIPWAY_TOKEN") or _read(home / "token")
    changed = compose.run("run", "--rm", "--no-deps", "-T", "first-run", text=own).strip()
    # Not `--wait`, because the engine's first health check comes after 30 s. `/ready` of services covers Redis, Envoy
    # and the keeper too.
    compose.run("up", "--detach", "--remove-orphans")
    if changed:
        compose.run("restart", *SERVICES)
    token = compose.run("exec", "-T", "flags", "cat", TOKEN).strip()
    home.mkdir(exist_ok=True, mode=0o700)
    write_private(home / "token", f"{token}\n")
    _wait_until_ready(compose, ports, token)
    _greet(ports, home, time.monotonic() - started, hint)


def down(compose: Compose) -> None:
    """Stops the stack and all apps. Their data stay in volumes; `up` starts them again."""
    compose.run("stop")  # first, because the deployer would replace the instances
    compose.run("run", "--rm", "--no-deps", "-T", "--entrypoint", "python", "deployer", "-c", END_INSTANCES)
    compose.run("down", "--remove-orphans")


def make_env_file(path: Path, socket: Path) -> None:
    """Creates the file from `.env.example`, with the group of the engine's socket; an existing file is only checked.
    Raises SystemExit if there is no socket, or if the file names another group.
    """
    text = path.read_text() if path.exists() else ""
    socket = Path(_setting(text, "DOCKER_SOCKET") or socket)
    if not socket.exists():
        raise SystemExit(f"no Docker Engine: {socket} is not there; start it, or set DOCKER_SOCKET in {path.name}")
    group = str(socket.stat().st_gid)
    if not path.exists():
        example = (ROOT / ".env.example").read_text()
        path.write_text(example.replace("DOCKER_GID=\n", f"DOCKER_GID={group}\n"))
    elif _setting(text, "DOCKER_GID") != group:
        raise SystemExit(f"{path.name}: {socket} belongs to group {group}; write DOCKER_GID={group}")


def _setting(text: str, name: str) -> str:
    """Returns the last value of the setting in the file's text; empty if it has none."""
    values = [line.partition("=")[2].strip() for line in text.splitlines() if line.startswith(f"{name}=")]
    return values[-1] if values else ""


def _read(path: Path) -> str:
    return path.read_text().strip() if path.exists() else ""


def need_free_ports(ports: Mapping[str, int]) -> None:
    """Raises SystemExit if ports are taken; the message says which, and which settings change them."""
    problems = {name: port_problem("127.0.0.1", port) for name, port in ports.items()}
    taken = [f"  {ports[n]} (SLIPWAY_{n.upper()}_PORT): {problem}" for n, problem in problems.items() if problem]
    if taken:
        raise SystemExit(
            "These ports cannot be had; end what uses them, or set another port in .env:\n" + "\n".join(taken)
        )


def _wait_until_ready(compose: Compose, ports: dict[str, int], token: str) -> None:
    """Waits until all services are ready. Raises SystemExit that says which one is not, and why; at once if Redis
    cannot read its data.
    """
    deadline, redis_at = time.monotonic() + READY_WITHIN_S, time.monotonic() + REDIS_EVERY_S
    for service in SERVICES:
        while why := _unready(ports[service], token):
            if time.monotonic() > redis_at:
                redis_at = time.monotonic() + REDIS_EVERY_S
                _need_readable_data(compose.run("logs", "--no-color", "--no-log-prefix", "--tail", "100", "redis"))
            if time.monotonic() > deadline:
                raise SystemExit(f"{service} is not ready: {why}\nIts log: docker compose logs {service}")
            time.sleep(0.2)


def _need_readable_data(redis_log: str) -> None:
    """Raises SystemExit with Redis' last words and the remedy if it ended as its append-only file is damaged."""
    words = last_words_in(redis_log)
    if is_damaged(words):
        raise SystemExit(f"Redis cannot read its data; its last words: {words}\n{REPAIR}")


def _unready(port: int, token: str) -> str:
    request = urllib.request.Request(f"http://127.0.0.1:{port}/ready", headers={"Authorization": f"Bearer {token}"})
    try:
        with urllib.request.urlopen(request, timeout=5):
            return ""
    except urllib.error.HTTPError as error:
        return error.read().decode(errors="replace")
    except OSError as error:
        return str(error)


def _greet(ports: dict[str, int], home: Path, seconds: float, hint: str) -> None:
    """Prints how to reach the stack; `hint` is an additional line, or empty."""
    only = f"production only :{ports['production']}, canary only :{ports['canary']}"
    build = f"http://127.0.0.1:{ports['build']}"
    lines = [
        f"Slipway is ready after {seconds:.1f} s",
        f"  builds    {build}/   (any user name, the token as password)",
        f"  visitors  http://127.0.0.1:{ports['public']}/   {only}",
        f"  deploy    git push {build}/git/<app>.git HEAD:release   (HEAD:dev for a canary)",
        f"  token     {home / 'token'}",
        "  logs      make logs",
        "make down ends it, and the apps with it; their data stays.",
        *([hint] if hint else []),
    ]
    print("\n".join(lines), flush=True)


def main(arguments: Sequence[str]) -> int:
    if not shutil.which("docker"):
        raise SystemExit("docker is not installed; https://docs.docker.com/engine/install/, or `make local` without it")
    env_file = ROOT / os.environ.get("SLIPWAY_ENV_FILE", ".env")
    compose = Compose(env_file)
    try:
        if arguments == ["up"]:
            make_env_file(env_file, SOCKET)
            up(compose, Path(os.environ.get("SLIPWAY_HOME", ROOT / ".slipway")))
        elif arguments == ["down"]:
            down(compose)
        else:
            raise SystemExit("python3 -m stack.compose up|down")
    except subprocess.CalledProcessError as error:
        return error.returncode
    except EngineError as error:
        raise SystemExit(str(error)) from error
    return 0
