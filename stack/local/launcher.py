"""Implements `make local`: runs the stack on this machine in the foreground, until SIGINT, SIGTERM or SIGHUP. It
restarts supervisor if that dies; supervisor restarts Redis, the keeper, Envoy and the five services. At the end it
stops supervisor, and then the apps, within 15 s. If it is killed, all of them run on, and the next launcher takes them
over.
"""

import os
import signal
import sys
import time
from types import FrameType
from urllib.parse import urlsplit

from services.deployer.drivers.driver import DriverError
from services.deployer.shutdown import end_instances
from services.proxy.envoy.files import prepare
from shared import __version__
from shared.config import SERVICES, SharedSettings, secret_file
from shared.host.port_holder import port_problem
from shared.host.reserved_ports import reserve
from shared.web.server import exclusive
from stack.local.programs import supervisor_conf
from stack.local.service_watch import ServiceWatch
from stack.local.supervision import Supervisor
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
        supervisor = Supervisor(home)
        if supervisor.adopt() and (why := supervisor.differences()):
            print(f"an earlier launcher was killed; its stack is restarted, as {why}", flush=True)
            supervisor.stop(SUPERVISOR_STOP_S)
        if not supervisor.runs():
            _need_free_ports(settings)
        write_files(settings)
        Launcher(settings, supervisor).run()
    return 0


class Launcher:
    """Runs the stack once, in the foreground: starts `supervisor`, unless it runs. Until all services are ready, it
    reports every `report_s` seconds those that are not.
    """

    def __init__(self, settings: SharedSettings, supervisor: Supervisor, report_s: float = REPORT_S) -> None:
        self._settings = settings
        self._supervisor = supervisor
        self._report_s = report_s
        self._stopping = False

    def run(self) -> None:
        """Runs the stack until a signal. Services that are not ready are reported, but do not stop the stack: on a busy
        machine they may be late, and the apps keep serving.
        """
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        if self._supervisor.runs():
            print("an earlier launcher was killed; its stack runs on, and is taken over", flush=True)
        else:
            self._supervisor.start()
        watch = ServiceWatch(self._settings, self._report_s, lambda: self._stopping)
        has_greeted = False
        try:
            while not self._stopping:
                watch.step()
                if watch.seconds is not None and not has_greeted:
                    has_greeted = True
                    _greet(self._settings, watch.seconds)
                time.sleep(0.2 if has_greeted else 0.05)
                if not self._supervisor.runs() and not self._stopping:
                    print("supervisor ended; starting it again", file=sys.stderr, flush=True)
                    time.sleep(1)
                    self._supervisor.start()
        finally:
            self._stop()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._stopping = True

    def _stop(self) -> None:
        print("stopping", flush=True)
        self._supervisor.stop(SUPERVISOR_STOP_S)
        try:
            stopped = end_instances(self._settings, os.environ, INSTANCES_STOP_S)
        except DriverError as error:
            print(f"stopped, but {error}", file=sys.stderr, flush=True)
            return
        print(f"stopped, {stopped} app instance{'' if stopped == 1 else 's'} with it", flush=True)


def _need_free_ports(settings: SharedSettings) -> None:
    variables = {f"SLIPWAY_{service.upper()}_PORT": settings.port(service) for service in SERVICES}
    variables |= settings.envoy_ports
    variables |= {"SLIPWAY_REDIS_URL": urlsplit(settings.redis_url).port or 6379}
    problems = {each: port_problem(settings.host, port) for each, port in variables.items()}
    taken = [f"  {variables[each]} ({each}): {problem}" for each, problem in problems.items() if problem]
    if taken:
        sys.exit(
            "These ports cannot be had; end what uses them, or set the variable to another port:\n" + "\n".join(taken)
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
        f"  visitors  http://<app>.{settings.domain}:{settings.public_port}/   {only}",
        f"  deploy    git push {build}/git/<app>.git HEAD:release   (HEAD:dev for a canary)",
        f"  token     {home}/token",
        f"  logs      {home}/logs/",
        "Ctrl-C ends it, and the apps with it.",
    ]
    print("\n".join(lines), flush=True)
