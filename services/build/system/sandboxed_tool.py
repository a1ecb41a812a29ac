"""Runs an analysis tool on untrusted input, with limits on CPU time, memory and output. The kernel enforces them
(`ulimit`), so they hold even if this service is killed."""

import asyncio
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from services.build.system.command import kill, start
from services.build.system.process_exit import exit_code
from shared.host.shortage import shortage
from shared.manifest import MIB

TIMEOUT_S = 120.0
LARGEST_ANSWER_BYTES = 32 * MIB
LARGEST_MEMORY_BYTES = 2048 * MIB
# `ulimit -f` counts blocks of 512 bytes, `-v` KiB; `-t` applies to each process.
_BOUNDED = f"""\
exec 2>/dev/null
ulimit -t {TIMEOUT_S:.0f}
ulimit -v {LARGEST_MEMORY_BYTES // 1024}
ulimit -f {LARGEST_ANSWER_BYTES // 512}
exec "$@"
"""


class ToolFailed(Exception):
    """Reports that a tool gave no usable answer; the message says why."""


async def answer(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], timeout_s: float = TIMEOUT_S
) -> str:
    """Runs the program and returns its standard output, at most 32 MiB. Afterwards, also when cancelled, kills
    everything that the program has started. Raises ToolFailed if it does not start, fails, or exceeds a limit, and
    OSError if the machine is short of something.
    """
    with tempfile.TemporaryFile() as printed:
        try:
            tool = start(["sh", "-c", _BOUNDED, "tool", *command], folder, environment, printed.fileno())
        except OSError as error:
            if shortage(error) is not None:
                raise
            raise ToolFailed(f"the tool could not be started: {error.strerror}") from error
        try:
            code = await asyncio.wait_for(exit_code(tool), timeout_s)
        except TimeoutError:
            remedy = "leave out of the commit what is made by a build"
            raise ToolFailed(f"the tool took longer than {timeout_s:g} s; {remedy}") from None
        finally:
            await kill(tool)
        if printed.seek(0, os.SEEK_END) >= LARGEST_ANSWER_BYTES:
            raise ToolFailed(f"the tool's answer is larger than {LARGEST_ANSWER_BYTES // MIB} MB")
        if code:
            raise ToolFailed("the tool did not run to its end")
        return await asyncio.to_thread(_text_of, printed)


def _text_of(printed: IO[bytes]) -> str:
    printed.seek(0)
    return printed.read().decode(errors="replace")
