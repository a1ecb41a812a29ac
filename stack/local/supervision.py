"""Starts supervisor, or finds the one that a killed launcher left running, and calls it."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xmlrpc.client import ServerProxy

import psutil
from supervisor.xmlrpc import SupervisorTransport

from stack.local.programs import ROOT


class Supervisor:
    """Controls the supervisord of one home. That outlives its launcher, so that visitors are still served if the
    launcher is killed.
    """

    def __init__(self, home: Path) -> None:
        self._home = home
        self._conf = str(home / "supervisord.conf")
        self._child: subprocess.Popen[bytes] | None = None
        self._left: psutil.Process | None = None

    def adopt(self) -> bool:
        """Takes over the supervisor that runs for this home, if there is one. Returns True if there is."""
        with contextlib.suppress(OSError, ValueError, psutil.Error):
            process = psutil.Process(int((self._home / "supervisor.pid").read_text()))
            if self._conf in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE:
                self._left = process
        return self._left is not None

    def differences(self) -> str:
        """Returns what has changed since the adopted supervisor was started: names of settings, or the code. Returns an
        empty text if nothing has.
        """
        assert self._left is not None
        theirs, ours = _settings(self._left.environ()), _settings({**os.environ, "SLIPWAY_HOME": str(self._home)})
        names = sorted(name for name in theirs.keys() | ours.keys() if theirs.get(name) != ours.get(name))
        if names:
            return f"{', '.join(names)} changed"
        sources = (path for name in ("services", "shared", "stack") for path in (ROOT / name).rglob("*.py"))
        is_newer = any(path.stat().st_mtime > self._left.create_time() for path in sources)
        return "the code changed" if is_newer else ""

    def start(self) -> None:
        """Starts supervisord in a session of its own. So a terminal's Ctrl-C and hang-up reach only the launcher, which
        then stops everything in order.
        """
        self._left = None
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONWARNINGS"}
        environment["SLIPWAY_HOME"] = str(self._home)
        command = [sys.executable, "-m", "supervisor.supervisord", "-c", self._conf]
        if os.geteuid() == 0:
            command += ["--user", "root"]
        self._child = subprocess.Popen(command, env=environment, start_new_session=True, stdin=subprocess.DEVNULL)

    def runs(self) -> bool:
        if self._left is not None:
            with contextlib.suppress(psutil.Error):
                return self._left.is_running() and self._left.status() != psutil.STATUS_ZOMBIE
            return False
        return self._child is not None and self._child.poll() is None

    def stop(self, timeout_s: float) -> None:
        """Ends supervisord, and with it its programs, by SIGTERM; after `timeout_s` seconds by SIGKILL."""
        process = self._left or self._child
        if process is None:
            return
        with contextlib.suppress(psutil.Error):
            process.terminate()
            try:
                process.wait(timeout_s)
            except (psutil.TimeoutExpired, subprocess.TimeoutExpired):
                process.kill()
                process.wait(timeout_s)


@contextlib.contextmanager
def supervisor_rpc(home: Path) -> Iterator[Any]:
    """Yields a proxy of supervisor's XML-RPC interface; its calls raise OSError and xmlrpc.client.Error."""
    transport = SupervisorTransport(None, None, f"unix://{home}/supervisor.sock")
    try:
        yield ServerProxy("http://127.0.0.1", transport=transport).supervisor
    finally:
        transport.close()


def _settings(environment: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith("SLIPWAY_")}
