"""Processes found by a mark in their environment, whoever started them and wherever they have moved since."""

import contextlib
import time

import psutil

LOOK_AGAIN_S = 0.01


def marked_pids(name: str, value: str) -> list[int]:
    """Living processes that began with `name=value` in their environment; those of other users cannot be read and are
    not found. Blocks for some 30 ms: none are found only if a second look finds none either, since a process that is
    just being started shows no environment, and a listing misses what is forked meanwhile.
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
