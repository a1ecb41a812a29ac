"""Waits for the end of a process without using a thread."""

import contextlib
import os
import subprocess

from services.build.system.pipe import readable


async def exit_code(process: "subprocess.Popen[bytes]") -> int:
    """Waits until the process has ended, and returns its exit code (negative: the signal that ended it). It waits for a
    pidfd (Linux 5.3) in the event loop. A thread for each process would soon use up the event loop's default thread
    pool and block everything else that needs it.
    """
    with contextlib.suppress(ProcessLookupError):  # it ended, and another caller has collected its exit code
        pidfd = os.pidfd_open(process.pid)
        try:
            if process.poll() is None:
                await readable(pidfd)
        finally:
            os.close(pidfd)
    return process.wait()  # at once: the process has ended
