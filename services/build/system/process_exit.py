"""Waits for the end of a process without taking a thread."""

import contextlib
import os
import subprocess

from services.build.system.pipe import readable


async def exit_code(process: "subprocess.Popen[bytes]") -> int:
    """Waits until the process has ended, and returns its exit code (negative: the signal that ended it).

    The kernel wakes the event loop through a pidfd (Linux 5.3 and newer). A thread for each wait would come from the
    event loop's default pool, which has six of them on two cores: six programs at once would then hold up every
    time-out, cancellation, push and log of the service.
    """
    with contextlib.suppress(ProcessLookupError):  # it ended, and another caller has collected its exit code
        pidfd = os.pidfd_open(process.pid)
        try:
            if process.poll() is None:
                await readable(pidfd)
        finally:
            os.close(pidfd)
    return process.wait()  # at once: the process has ended
