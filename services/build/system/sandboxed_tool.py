"""Runs a program of the platform on untrusted input, with limits of CPU time, memory and output.

The kernel enforces these limits (`ulimit`), so they hold even if this service is killed meanwhile.
"""

import contextlib
import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from shared.manifest import MIB

TIMEOUT_S = 120.0
LARGEST_ANSWER_BYTES = 32 * MIB
LARGEST_MEMORY_BYTES = 2048 * MIB
# `ulimit -f` counts blocks of 512 bytes, `-v` KiB; `-t` is of each process.
_BOUNDED = f"""\
ulimit -t {TIMEOUT_S:.0f}
ulimit -v {LARGEST_MEMORY_BYTES // 1024}
ulimit -f {LARGEST_ANSWER_BYTES // 512}
exec "$@"
"""


class ToolFailed(Exception):
    """Reports that a tool gave no answer; the message says why, for a person."""


def answer(command: Sequence[str], folder: Path, environment: Mapping[str, str], timeout_s: float = TIMEOUT_S) -> str:
    """Runs the program and returns its standard output, at most 32 MiB. Everything that it started is killed
    afterwards. Blocks, at most `timeout_s` seconds. Raises ToolFailed."""
    with tempfile.TemporaryFile() as printed:
        quiet = subprocess.DEVNULL
        try:
            tool = subprocess.Popen(
                ["sh", "-c", _BOUNDED, "tool", *command],
                cwd=folder,
                env=environment,
                stdin=quiet,
                stdout=printed,
                stderr=quiet,
                start_new_session=True,
            )
        except OSError as error:
            raise ToolFailed(f"the tool could not be started: {error.strerror}") from error
        try:
            code = tool.wait(timeout_s)
        except subprocess.TimeoutExpired:
            remedy = "leave out of the commit what is made by a build"
            raise ToolFailed(f"the tool took longer than {timeout_s:g} s; {remedy}") from None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(tool.pid, signal.SIGKILL)
            tool.wait()
        if printed.seek(0, os.SEEK_END) >= LARGEST_ANSWER_BYTES:
            raise ToolFailed(f"the tool's answer is larger than {LARGEST_ANSWER_BYTES // MIB} MB")
        if code:
            raise ToolFailed("the tool did not run to its end")
        printed.seek(0)
        return printed.read().decode(errors="replace")
