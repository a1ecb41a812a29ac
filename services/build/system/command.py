"""Starts a program on this machine, waits for its end, and passes on its output as it arrives."""

import asyncio
import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import termios
import time
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from pathlib import Path
from typing import Any

from services.build.system.pipe import Output, PipeEnd
from services.build.system.process_exit import exit_code
from services.build.system.stop import Stop

DRAIN_TIMEOUT_S = 5.0
TERMINATE_TIMEOUT_S = 1.0


def start(command: Sequence[str], folder: Path, environment: Mapping[str, str], output: int) -> subprocess.Popen[bytes]:
    """Starts `command` in its own session, with stdout and stderr to the pipe `output`. Raises OSError if it cannot be
    started.
    """
    # Not asyncio's subprocess: under uvloop other processes would inherit its pipes.
    return subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
    )


async def terminate(process: subprocess.Popen[bytes]) -> None:
    """Ends all processes in the session of a process that `start` returned: sends SIGTERM, and SIGKILL 1 s later. Waits
    for the process even when cancelled.
    """
    await uncancelled(_terminate(process))


async def _terminate(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, TimeoutError):
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            await asyncio.wait_for(exit_code(process), TERMINATE_TIMEOUT_S)
    if process.poll() is None:
        await kill(process)


async def kill(process: subprocess.Popen[bytes]) -> None:
    """Kills all processes in the session of a process that `start` returned. Waits for the process even when
    cancelled.
    """
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await uncancelled(exit_code(process))


async def wait_for_exit(process: subprocess.Popen[bytes], deadline: float, timeout_s: float, stop: Stop) -> str:
    """Waits until `process` has ended, but only until `deadline` (monotonic clock) or until `stop` is set. Returns an
    empty string if it has ended, else the reason for not waiting longer, with `timeout_s` as the limit. It does not end
    the process.
    """
    end = asyncio.ensure_future(exit_code(process))
    try:
        return await wait_until_done(end, deadline, timeout_s, stop)
    finally:
        end.cancel()


async def wait_until_done(end: "asyncio.Future[Any]", deadline: float, timeout_s: float, stop: Stop) -> str:
    """Waits until `end` is done, but only until `deadline` (monotonic clock) or until `stop` is set. Returns an empty
    string if it is done, else the reason for not waiting longer, with `timeout_s` as the limit. It does not cancel
    `end`.
    """
    stopped = asyncio.ensure_future(stop.wait())
    try:
        left_s = deadline - time.monotonic()
        await asyncio.wait({end, stopped}, timeout=max(0.0, left_s), return_when=asyncio.FIRST_COMPLETED)
        if end.done():
            return ""
        return "was stopped" if stop.is_set() else f"took longer than its time-out of {timeout_s:g} s"
    finally:
        stopped.cancel()


async def uncancelled(work: Awaitable[Any]) -> None:
    """Waits for `work` even when this task is cancelled. Afterwards raises the exception of `work`, or CancelledError
    if this task was cancelled.
    """
    task, cancelled = asyncio.ensure_future(work), False
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            cancelled = True
    task.result()
    if cancelled:
        raise asyncio.CancelledError


@contextlib.asynccontextmanager
async def piped(output: Output) -> AsyncIterator[int]:
    """Yields the write end of a pipe, whose content is passed to `output`. At the end of the block, waits until all
    writers have closed the pipe, at most 6 s.
    """
    read_end, write_end = os.pipe()
    copying = asyncio.create_task(_copy(read_end, output))
    try:
        yield write_end
    finally:
        try:
            await drained(write_end)
        finally:
            os.close(write_end)
            await asyncio.wait([copying], timeout=1.0)
            copying.cancel()


async def drained(pipe: int) -> None:
    """Waits until everything written into the pipe that `piped` yields has been read, at most 5 s."""
    deadline = time.monotonic() + DRAIN_TIMEOUT_S
    while int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder):
        if time.monotonic() > deadline:
            return
        await asyncio.sleep(0.001)


async def _copy(read_end: int, output: Output) -> None:
    pipe = PipeEnd(read_end)
    try:
        while data := await pipe.read():
            output(data)
    finally:
        os.close(read_end)
