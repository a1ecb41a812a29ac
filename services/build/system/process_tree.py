"""Runs a command in such a way that everything it starts can be ended: as a child of the program `tree_runner.py`,
which is the root of a process tree.
"""

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from services.build.system import tree_runner
from services.build.system.command import wait_until_done
from services.build.system.pipe import readable
from services.build.system.process_exit import exit_code
from services.build.system.stop import Stop

RUNNER = [sys.executable, "-I", "-S", tree_runner.__file__]


class ProcessTree:
    """Runs a command and holds all processes that it starts; stdout and stderr go to the pipe `output`. These processes
    may outlive the command. They end at `close`, or when this service ends: first by SIGTERM, and `grace_s` seconds
    later by SIGKILL. Raises OSError if the command cannot be started.
    """

    def __init__(
        self, command: Sequence[str], folder: Path, environment: Mapping[str, str], output: int, grace_s: float
    ) -> None:
        # Not asyncio's subprocess: under uvloop other processes would inherit its pipes.
        self._runner = subprocess.Popen(
            [*RUNNER, str(grace_s)],
            cwd=folder,
            env={**environment, **{f"{tree_runner.ARGUMENT}{place}": word for place, word in enumerate(command)}},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=output,
            start_new_session=True,
        )
        assert self._runner.stdin is not None and self._runner.stdout is not None
        self._life, self._answer = self._runner.stdin, self._runner.stdout
        os.set_blocking(self._answer.fileno(), False)
        self._code: int | None = None

    @property
    def lost(self) -> bool:
        """Returns True if the root of the tree was killed, so that processes may have left the tree. Valid after
        `close` only.
        """
        return self._runner.returncode != 0

    def poll(self) -> int | None:
        """Returns the command's exit code (negative: the signal that ended it); None while the command runs."""
        if self._code is None:
            with contextlib.suppress(BlockingIOError):
                answer = os.read(self._answer.fileno(), 16)
                self._code = int(answer) if answer else self._runner.wait()
        return self._code

    async def exit_code(self) -> int:
        """Waits until the command has ended, and returns its exit code (negative: the signal that ended it). Uses no
        thread. May be cancelled.
        """
        while (code := self.poll()) is None:
            answer = os.dup(self._answer.fileno())  # several tasks may wait, each needs a descriptor of its own
            try:
                await readable(answer)
            finally:
                os.close(answer)
        return code

    async def wait(self, deadline: float, timeout_s: float, stop: Stop) -> str:
        """Waits until the command has ended, but only until `deadline` (monotonic clock) or until `stop` is set.
        Returns an empty string if it has ended, else the reason for not waiting longer, with `timeout_s` as the limit.
        It does not end the command.
        """
        end = asyncio.ensure_future(self.exit_code())
        try:
            return await wait_until_done(end, deadline, timeout_s, stop)
        finally:
            end.cancel()

    async def close(self) -> None:
        """Ends the command and all processes that it has started: sends SIGTERM, and SIGKILL after the grace period."""
        self._life.close()
        await exit_code(self._runner)
        self._answer.close()
