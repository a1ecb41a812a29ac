"""Starts build services that need no time for their imports: a process that has imported them all forks for each."""

import os
import signal
from collections.abc import Mapping
from multiprocessing import get_context
from pathlib import Path

FORKSERVER = get_context("forkserver")
FORKSERVER.set_forkserver_preload(["services.build.main"])


class ForkedService:
    """`python -m services.build` with these environment variables, and output to the end of the file `log`."""

    def __init__(self, environment: Mapping[str, str], log: Path) -> None:
        self._process = FORKSERVER.Process(target=_run, args=(dict(environment), log))
        self._process.start()
        assert self._process.pid is not None
        self.pid: int = self._process.pid

    def terminate(self) -> None:
        self._process.terminate()

    def kill(self) -> None:
        self._process.kill()

    def wait(self, timeout_s: float) -> int:
        """Returns the exit code, negative: the signal. Raises TimeoutError."""
        self._process.join(timeout_s)
        if self._process.exitcode is None:
            raise TimeoutError(f"the build service {self.pid} has not ended within {timeout_s:g} s")
        return self._process.exitcode


def _run(environment: dict[str, str], log: Path) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    for stream in (1, 2):
        os.dup2(output, stream)
    from services.build.main import run

    run()
