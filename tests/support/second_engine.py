"""A second Docker Engine on this machine, which a test may kill: with folders, a network namespace and a socket of its
own, so that the first one notices nothing of it. Needs root.
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

if TYPE_CHECKING:
    from docker import DockerClient

WITHIN_S = 40
# Rules and forwarding are the first engine's; `--bridge=none` would delete its bridge.
FLAGS = ("--iptables=false", "--ip6tables=false", "--userland-proxy=false", "--ip-forward=false")


class SecondEngine:
    """`environment`: by which clients find it."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.environment = {"DOCKER_HOST": f"unix://{root}/sock"}
        self._network = subprocess.Popen(["unshare", "--net", "sh", "-c", "ip link set lo up; exec sleep 3600"])
        self._daemon: subprocess.Popen[bytes] | None = None

    def start(self, *flags: str) -> None:
        """Returns when it answers."""
        (self._root / "daemon.json").write_text("{}")
        within = ["nsenter", f"--net=/proc/{self._network.pid}/ns/net"]
        places = [f"--data-root={self._root}/data", f"--exec-root={self._root}/exec", f"--pidfile={self._root}/pid"]
        own = [f"--config-file={self._root}/daemon.json", f"--host={self.environment['DOCKER_HOST']}"]
        with (self._root / "log").open("a") as log:
            self._daemon = subprocess.Popen([*within, "dockerd", *places, *own, *FLAGS, *flags], stdout=log, stderr=log)
        deadline = time.monotonic() + WITHIN_S
        while self._docker("version").returncode:
            if time.monotonic() > deadline or self._daemon.poll() is not None:
                raise RuntimeError(f"no second engine: {(self._root / 'log').read_text()[-2000:]}")
            time.sleep(0.1)

    def kill(self) -> None:
        """SIGKILL. Its containers live on, until it is started again."""
        self._signal(signal.SIGKILL)
        # It would end by itself; but while the machine has not reaped it, the next daemon takes it for alive.
        self._end("containerd")
        (self._root / "exec" / "containerd" / "containerd.pid").unlink(missing_ok=True)

    def hang(self) -> None:
        """It answers nobody."""
        self._running.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._running.send_signal(signal.SIGCONT)

    def shut_down(self) -> None:
        """SIGTERM, as a service manager does; it takes its containers down."""
        self._signal(signal.SIGTERM)

    def stop(self) -> None:
        """Removes its containers and ends the engine; if the engine was left killed, kills its containers by force."""
        if self._daemon is not None and self._daemon.poll() is None:
            for container in self._docker("ps", "--all", "--quiet").stdout.split():
                self._docker("rm", "--force", "--volumes", container)
            self._signal(signal.SIGTERM)
        self._end("containerd-shim-runc-v2")

    def load(self, image: str) -> None:
        """From the first engine."""
        with subprocess.Popen(["docker", "save", image], stdout=subprocess.PIPE) as saving:
            self._docker("load", stdin=saving.stdout).check_returncode()

    def client(self) -> "DockerClient":
        import docker

        return docker.from_env(environment=self.environment)

    def close(self) -> None:
        self.stop()
        self._end("containerd")
        self._network.kill()
        self._network.wait()
        mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for mount in sorted((each for each in mounts if each.startswith(f"{self._root}/")), reverse=True):
            subprocess.run(["umount", mount], check=False, capture_output=True)
        shutil.rmtree(self._root, ignore_errors=True)

    def _end(self, name: str) -> None:
        """Its own programs of that name, with what they run."""
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                command = process.cmdline()
                if command and Path(command[0]).name == name and str(self._root) in " ".join(command):
                    for each in [*process.children(recursive=True), process]:
                        with suppress(psutil.Error):
                            each.kill()
                            each.wait(10)

    @property
    def _running(self) -> "subprocess.Popen[bytes]":
        if self._daemon is None:
            raise RuntimeError("the second engine does not run")
        return self._daemon

    def _signal(self, number: signal.Signals) -> None:
        self._running.send_signal(number)
        try:
            self._running.wait(20)
        except subprocess.TimeoutExpired:
            self._running.kill()
            self._running.wait()
        self._daemon = None

    def _docker(self, *arguments: str, stdin: object = None) -> "subprocess.CompletedProcess[str]":
        environment = {"PATH": os.environ["PATH"], **self.environment}
        given = {"stdin": stdin} if stdin else {}
        return subprocess.run(  # type: ignore[call-overload, no-any-return]
            ["docker", *arguments], env=environment, capture_output=True, text=True, timeout=WITHIN_S, **given
        )


def a_second_engine(folder: Path, image: str) -> Iterator[SecondEngine]:
    """With the image; it runs not yet. Skips where there can be none, fails in CI."""
    missing = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
    if os.geteuid() != 0 or any(shutil.which(program) is None for program in ("dockerd", "nsenter", "unshare", "ip")):
        missing("a second Docker Engine needs root, dockerd, nsenter, unshare and ip")
    engine = SecondEngine(folder)
    try:
        engine.start()
        engine.load(image)
        engine.stop()
        yield engine
    finally:
        engine.close()
