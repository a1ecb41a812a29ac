"""Finds processes by a marker in their environment, in whichever process group or session they are."""

import contextlib
import time

import psutil

LOOK_AGAIN_S = 0.01


def marked_pids(name: str, value: str) -> list[int]:
    """Returns the pids of living processes that began with `name=value` in their environment; the environment of other
    users' processes cannot be read. Blocks for some 30 ms: an empty first look is repeated, since a process that is
    just being started shows no environment, and a listing misses processes forked meanwhile.
    """
    found = _look(name, value)
    if not found:
        time.sleep(LOOK_AGAIN_S)
        found = _look(name, value)
    return found


def _look(name: str, value: str) -> list[int]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(name) == value and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found
