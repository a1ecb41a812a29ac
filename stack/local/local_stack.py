"""Gives tests, benchmarks and the demo a handle on a running stack: start, call, kill, end."""

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from xmlrpc.client import Fault

import httpx
from supervisor.xmlrpc import Faults

from shared.config import SERVICES, ServiceName, SharedSettings
from stack.local.programs import GROUP, ROOT
from stack.local.supervision import supervisor_rpc

READY_WITHIN_S = 60
OF_THIS_MACHINE = "127.0.0.0/8 172.16.0.0/12"  # the second network as containers see it


class LocalStack:
    """Represents a running stack. `settings` are those with which it was started."""

    def __init__(self, settings: SharedSettings) -> None:
        self.settings = settings
        self.token = settings.platform_token()

    def api(self, service: ServiceName) -> httpx.Client:
        """Returns an HTTP client of one service that sends the token; the caller has to close it."""
        headers = {"Authorization": f"Bearer {self.token}"}
        # http:// URLs need no certificates, which take 35 ms to load at each of many calls.
        return httpx.Client(base_url=self.settings.url(service), headers=headers, timeout=10, verify=False)

    def is_ready(self) -> bool:
        """Returns True if all five services are ready."""
        try:
            for service in SERVICES:
                with self.api(service) as client:
                    if client.get("/ready").status_code != 200:
                        return False
        except httpx.HTTPError:
            return False
        return True

    def in_containers(self) -> bool:
        """Returns True if the services run in containers, which reach this machine as `host.docker.internal`."""
        with self.api("deployer") as client:
            return any("127.0.0.1" not in each["url"] for each in client.get("/registry").json()["services"])

    def pid(self, program: str) -> int:
        """Returns the process id of `redis`, `keeper`, `envoy` or a service; 0 if it is not running."""
        with supervisor_rpc(self.settings.home) as supervisor:
            return int(supervisor.getProcessInfo(f"{GROUP}:{program}")["pid"])

    @contextlib.contextmanager
    def kept_down(self, program: str) -> Iterator[None]:
        """Kills the program with SIGKILL, and keeps it from starting until the block ends."""
        os.kill(self.pid(program), signal.SIGKILL)
        # Fault: it does not run, as wanted
        with contextlib.suppress(Fault), supervisor_rpc(self.settings.home) as supervisor:
            supervisor.stopProcess(f"{GROUP}:{program}")
        try:
            yield
        finally:
            self._start(program)

    def _start(self, program: str) -> None:
        try:
            with supervisor_rpc(self.settings.home) as supervisor:
                supervisor.startProcess(f"{GROUP}:{program}")
        except Fault as fault:
            if fault.faultCode != Faults.ALREADY_STARTED:
                raise


def settings_on_free_ports(home: Path) -> SharedSettings:
    """Returns settings for a stack that can run next to others. Its ports are free now, outside Linux' range for
    outgoing connections and outside the range of the apps' instances. Mail servers, webhooks and repositories of this
    machine may be called.
    """
    names = [*(f"{service}_port" for service in SERVICES), "public_port", "production_port", "canary_port", "redis"]
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    redis_url = f"redis://127.0.0.1:{ports.pop('redis')}/0"
    own = {"home": home, "redis_url": redis_url, "allow_addresses": OF_THIS_MACHINE}
    return SharedSettings.model_validate({**own, **ports})


def environment(settings: SharedSettings) -> dict[str, str]:
    """Returns the `SLIPWAY_*` variables that give a process these settings (but no token)."""
    values = settings.model_dump(exclude={"token"}, exclude_none=True, mode="json")
    return {f"SLIPWAY_{name.upper()}": str(value) for name, value in values.items()}


@contextlib.contextmanager
def local_stack(
    home: Path, network: str = "", variables: Mapping[str, str] = MappingProxyType({})
) -> Iterator[LocalStack]:
    """Starts the launcher of `make local` for `home` and yields the stack when it is ready; ends the stack and its apps
    after the block. With a `network`, apps are containers in it; the caller removes the network. `variables` are
    additional settings of services. Raises RuntimeError if the stack does not become ready.
    """
    settings = settings_on_free_ports(home)
    if network:
        settings = settings.model_copy(update={"driver": "docker"})
    home.mkdir(parents=True, exist_ok=True)
    own = {"SLIPWAY_NETWORK": network} if network else {}
    process = start_launcher(settings, home / "launcher.log", {**variables, **own})
    try:
        stack = LocalStack(settings)
        deadline = time.monotonic() + READY_WITHIN_S
        while not stack.is_ready():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the stack did not become ready:\n{(home / 'launcher.log').read_text()}")
            time.sleep(0.05)
        yield stack
    finally:
        end_launcher(process)


def start_launcher(
    settings: SharedSettings, log: Path, variables: Mapping[str, str] = MappingProxyType({})
) -> "subprocess.Popen[bytes]":
    """Starts `python -m stack.local` with these settings and with `variables` as additional ones. Output goes to the
    file `log`.
    """
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "stack.local"],
            cwd=ROOT,
            env={**os.environ, **environment(settings), **variables},
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
        )


def end_launcher(process: "subprocess.Popen[bytes]") -> None:
    """Sends SIGTERM to the launcher and waits for its end, which takes up to 15 s. Raises TimeoutExpired after 20 s."""
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise


def free_ports(count: int, host: str = "127.0.0.1") -> list[int]:
    """Returns `count` TCP ports of `host` that are free now, outside Linux' range for outgoing connections."""
    found: list[int] = []
    candidates = iter(random.sample(range(10_000, 20_000), 2_000))
    while len(found) < count:
        port = next(candidates)
        with socket.socket() as probe:
            try:
                probe.bind((host, port))
            except OSError:
                continue
            found.append(port)
    return found
