"""A program of this machine: started, waited for, its output passed on as it comes."""

import asyncio
import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import termios
import time
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any

from services.build.executors.executor import Output, Stop
from services.build.system.pipe import PipeEnd

CAUGHT_UP_S = 5.0


def start(command: Sequence[str], folder: Path, environment: Mapping[str, str], output: int) -> subprocess.Popen[bytes]:
    """In a session of its own; `output` is the end of a pipe. Raises OSError."""
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


def end(process: subprocess.Popen[bytes]) -> None:
    """What `start` started, with all that is in its session. Gently first, so that it takes its lock files along; a
    second later by force."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(1)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


async def ended(process: subprocess.Popen[bytes], deadline: float, timeout_s: float, stop: Stop) -> str:
    """Why it was not waited for any longer; empty if it has ended by itself. (The caller ends it then.) `deadline` is
    by the monotonic clock; `timeout_s` is what is told of it."""
    return await first_of(asyncio.ensure_future(asyncio.to_thread(process.wait)), deadline, timeout_s, stop)


async def first_of(end: "asyncio.Future[Any]", deadline: float, timeout_s: float, stop: Stop) -> str:
    """Waits for `end`; returns why it was given up, or an empty string if it came. `end` itself is left alone."""
    stopped = asyncio.ensure_future(stop.wait())
    try:
        left_s = deadline - time.monotonic()
        await asyncio.wait({end, stopped}, timeout=max(0.0, left_s), return_when=asyncio.FIRST_COMPLETED)
        if end.done():
            return ""
        return "was stopped" if stop.is_set() else f"took longer than its time-out of {timeout_s:g} s"
    finally:
        stopped.cancel()


async def to_its_end(work: Coroutine[Any, Any, Any]) -> None:
    """Waits for `work` also when it is cancelled itself, however often."""
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
    """A pipe whose other end is read to `output`; at the end, until everybody has closed it, or for one second more."""
    read_end, write_end = os.pipe()
    copying = asyncio.create_task(_copy(read_end, output))
    try:
        yield write_end
    finally:
        try:
            await caught_up(write_end)
        finally:
            os.close(write_end)
            await asyncio.wait([copying], timeout=1.0)
            copying.cancel()


async def caught_up(pipe: int) -> None:
    """Returns once what was written into a pipe of `piped` has been passed on. What still runs may write for ever: that
    is not waited for longer than 5 s."""
    deadline = time.monotonic() + CAUGHT_UP_S
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
