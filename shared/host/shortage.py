"""Recognises errors that mean that the machine has run out of disk, memory, open files or processes."""

import errno
import resource

from shared.errors import InsufficientStorage, Problem, Unavailable
from shared.host.machine import DISK_REMEDY

NO_ROOM = "No space left on device"
_DISK = {errno.ENOSPC, errno.EDQUOT}
_PASSING = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN}
_DISK_WORDS = (NO_ROOM.lower(), "disk quota exceeded")  # as git, the engine and Redis quote them
_MEMORY_WORDS = "cannot allocate memory"


def shortage(error: BaseException) -> Problem | None:
    """Returns a problem that says what the machine has run out of, and what to do, if that is why `error`, or the
    exception that caused it, was raised. Its status is 507 for a full disk, and 503 for open files, memory or
    processes. Returns None for every other error.
    """
    code = error.errno if isinstance(error, OSError) else None
    said = str(error).lower()
    if code in _DISK or any(words in said for words in _DISK_WORDS):
        where = f": {error.filename}" if isinstance(error, OSError) and error.filename else ""
        return InsufficientStorage(f"the disk is full ({NO_ROOM}{where}): {DISK_REMEDY}")
    if code == errno.EMFILE:
        most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return Unavailable(
            f"this service has all {most} files open that it may; raise its limit (`ulimit -n`, LimitNOFILE= in a "
            "unit, `ulimits` in Compose) and restart it"
        )
    if code == errno.ENFILE:
        return Unavailable("the machine has all files open that it may; raise the sysctl fs.file-max")
    if code == errno.ENOMEM or isinstance(error, MemoryError) or _MEMORY_WORDS in said:
        return Unavailable("the machine has no memory left; end something that takes much of it, or give it more")
    if code == errno.EAGAIN or "can't start new thread" in said:
        return Unavailable(
            "no more processes or threads may be started; raise `ulimit -u`, the control group's pids.max or the "
            "sysctl kernel.pid_max"
        )
    return shortage(error.__cause__) if error.__cause__ is not None else None


def is_passing(error: OSError) -> bool:
    """Returns True if other programs may soon free what the machine has run out of: memory, processes or open files."""
    return error.errno in _PASSING
