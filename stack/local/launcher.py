"""Implements `make local`: runs the stack on this machine in the foreground, until SIGINT, SIGTERM or SIGHUP. It
restarts supervisor if that dies; supervisor restarts Redis, the keeper, Envoy and the five services. At the end it
stops supervisor, and then the apps, within 15 s.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from types import FrameType
from urllib.parse import urlsplit

import httpx

from services.deployer.drivers.driver import DriverError
from services.deployer.shutdown import end_instances
from services.proxy.envoy.files import prepare
from shared import __version__
from shared.config import SERVICES, ServiceName, SharedSettings, secret_file
from shared.host.port_holder import port_problem
from shared.host.reserved_ports import reserve
from shared.web.server import exclusive
from stack.local.programs import bound_to_parent, supervisor_conf
from stack.private_file import write_private
from stack.redis_conf import redis_conf

REPORT_S = 60.0
SUPERVISOR_STOP_S = 8
INSTANCES_STOP_S = 6
LONGEST_HOME = 80  # characters; a unix socket's path has at most 107


def main() -> int:
    settings = SharedSettings()
    home = settings.home
    if len(str(home)) > LONGEST_HOME:
        sys.exit(
            f"SLIPWAY_HOME is too long for its unix sockets, {len(str(home))} of {LONGEST_HOME} characters: {home}"
        )
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    with exclusive(home, "launcher"):
        _need_free_ports(settings)
        write_files(settings)
        Launcher(settings).run()
    return 0


class Launcher:
    """Runs the stack once, in the foreground. Every `report_s` seconds it reports the services that are not ready."""

    def __init__(self, settings: SharedSettings, report_s: float = REPORT_S) -> None:
        self._settings = settings
        self._report_s = report_s
        self._stopping = False
        self._started = time.monotonic()

    def run(self) -> None:
        """Runs the stack until a signal. Services that are not ready for long are reported, but do not stop the stack:
        on a busy machine they may be late, and the apps keep serving.
        """
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        supervisor = self._start_supervisor()
        waiting: dict[ServiceName, str] = dict.fromkeys(SERVICES, "no answer yet")
        reported_at = self._started
        try:
            while not self._stopping:
                if waiting:
                    waiting = self._unready(waiting)
                    if not waiting:
                        _greet(self._settings, time.monotonic() - self._started)
                    elif time.monotonic() - reported_at >= self._report_s:
                        reported_at = time.monotonic()
                        self._report(waiting)
                time.sleep(0.05 if waiting else 0.2)
                if supervisor.poll() is not None and not self._stopping:
                    print("supervisor ended; starting it again", file=sys.stderr, flush=True)
                    time.sleep(1)
                    supervisor = self._start_supervisor()
        finally:
            self._stop(supervisor)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._stopping = True

    def _start_supervisor(self) -> "subprocess.Popen[bytes]":
        # A session of its own, so that Ctrl-C and hang-up of a terminal reach only this launcher, which stops it.
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONWARNINGS"}
        environment["SLIPWAY_HOME"] = str(self._settings.home)
        conf = str(self._settings.home / "supervisord.conf")
        command = [sys.executable, "-m", "supervisor.supervisord", "-c", conf]
        if os.geteuid() == 0:
            command += ["--user", "root"]
        return subprocess.Popen(
            bound_to_parent(command), env=environment, start_new_session=True, stdin=subprocess.DEVNULL
        )

    def _unready(self, services: Iterable[ServiceName]) -> dict[ServiceName, str]:
        """Returns service → reason, for those of `services` that are not ready."""
        waiting: dict[ServiceName, str] = {}
        with httpx.Client(headers=self._headers, timeout=2, verify=False) as client:
            for service in services:
                try:
                    answer = client.get(f"{self._settings.url(service)}/ready")
                    if answer.status_code != 200:
                        waiting[service] = str(answer.json())
                except (httpx.HTTPError, ValueError) as error:
                    waiting[service] = type(error).__name__
        return waiting

    def _report(self, waiting: Mapping[ServiceName, str]) -> None:
        after_s = time.monotonic() - self._started
        for service, why in waiting.items():
            log = self._settings.home / "logs" / f"{service}.log"
            print(f"{service} is not ready after {after_s:.0f} s: {why}; see {log}", file=sys.stderr)
        print("waiting on; Ctrl-C ends the stack", file=sys.stderr, flush=True)

    @property
    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._settings.platform_token()}"}

    def _stop(self, supervisor: "subprocess.Popen[bytes]") -> None:
        print("stopping", flush=True)
        supervisor.terminate()
        try:
            supervisor.wait(SUPERVISOR_STOP_S)
        except subprocess.TimeoutExpired:
            supervisor.kill()
        try:
            stopped = end_instances(self._settings, os.environ, INSTANCES_STOP_S)
        except DriverError as error:
            print(f"stopped, but {error}", file=sys.stderr, flush=True)
            return
        print(f"stopped, {stopped} app instance{'' if stopped == 1 else 's'} with it", flush=True)


def _need_free_ports(settings: SharedSettings) -> None:
    variables = {f"SLIPWAY_{service.upper()}_PORT": settings.port(service) for service in SERVICES}
    variables |= {
        "SLIPWAY_PUBLIC_PORT": settings.public_port,
        "SLIPWAY_PRODUCTION_PORT": settings.production_port,
        "SLIPWAY_CANARY_PORT": settings.canary_port,
        "SLIPWAY_REDIS_URL": urlsplit(settings.redis_url).port or 6379,
    }
    problems = {each: port_problem(settings.host, port) for each, port in variables.items()}
    taken = [f"  {variables[each]} ({each}): {problem}" for each, problem in problems.items() if problem]
    if taken:
        sys.exit(
            "These ports can't be had; end what uses them, or set the variable to another port:\n" + "\n".join(taken)
        )
    reserve(variables.values())  # otherwise an outgoing connection may use one of them at the next start


def write_files(settings: SharedSettings) -> None:
    """Writes the files that the programs read at their start: the token, and the configuration of Redis, supervisor and
    Envoy.
    """
    home = settings.home
    if urlsplit(settings.redis_url).hostname not in ("127.0.0.1", "localhost", settings.host):
        sys.exit("SLIPWAY_REDIS_URL: the local stack brings its own Redis; name a port of 127.0.0.1 or leave it out")
    (home / "logs").mkdir(exist_ok=True)
    settings.platform_token()
    url, kept = urlsplit(settings.redis_url), secret_file(home / "redis" / "password")
    conf = redis_conf(settings.host, url.port or 6379, home / "redis", url.password or kept)
    write_private(home / "redis" / "redis.conf", conf)
    write_private(home / "supervisord.conf", supervisor_conf(settings))
    prepare(settings)


def _greet(settings: SharedSettings, seconds: float) -> None:
    build, home = settings.url("build"), settings.home
    only = f"production only :{settings.production_port}, canary only :{settings.canary_port}"
    lines = [
        f"Slipway {__version__} is ready after {seconds:.1f} s",
        f"  builds    {build}/   (any user name, the token as password)",
        f"  visitors  http://{settings.host}:{settings.public_port}/   {only}",
        f"  deploy    git push {build}/git/<app>.git HEAD:release   (HEAD:dev for a canary)",
        f"  token     {home}/token",
        f"  logs      {home}/logs/",
        "Ctrl-C ends it, and the apps with it.",
    ]
    print("\n".join(lines), flush=True)
